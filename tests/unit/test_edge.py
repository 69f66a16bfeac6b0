"""The outermost layer, and the small rules beside it."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.callers import host_name, is_loopback, refusal, rules
from broker.disconnect import CLIENT, Client, alongside, while_connected
from broker.edge import request_id
from broker.errors import ClientGone
from broker.failures import bare, places

LOCAL = rules("127.0.0.1", allowed_hosts=(), cors_origins=())
OPEN = rules("0.0.0.0", allowed_hosts=(), cors_origins=())


@pytest.mark.parametrize("given_id", ["a", "x" * 128, "0b5c-~!"])
def test_a_request_id_that_can_be_shown_is_echoed(given_id: str) -> None:
    assert request_id(given_id) == given_id


@pytest.mark.parametrize("given_id", ["", "x" * 129, "a b", "é", "a\x7f", "a\n"])
def test_another_one_is_made(given_id: str) -> None:
    assert request_id(given_id) != given_id
    assert len(request_id(given_id)) == 32


@given(host=st.text(max_size=80), origin=st.none() | st.text(max_size=80))
def test_any_host_and_origin_can_be_judged(host: str, origin: str | None) -> None:
    assert refusal(OPEN, host=host, origin=origin) is None
    if refusal(LOCAL, host=host, origin=origin) is None:
        assert is_loopback(host_name(host))
        assert origin is None or origin.lower() == f"http://{host.lower()}"


@pytest.mark.parametrize("host", ["localhost", "localhost.", "127.0.0.1:1", "[::1]:8", "x.localhost", "LocalHost"])
def test_local_names(host: str) -> None:
    assert is_loopback(host_name(host))
    assert refusal(LOCAL, host=host, origin=None) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "0.0.0.0",
        "192.168.1.1",
        "[::2]",
        "[",
        "a]b",
        "evil.com@localhost",
        "@localhost",
    ],
)
def test_names_that_only_look_local(host: str) -> None:
    assert refusal(LOCAL, host=host, origin=None) is not None


def test_an_open_address_takes_any_name_until_names_are_listed() -> None:
    assert refusal(OPEN, host="code-interpreter:8000", origin="https://chat.example") is None
    listed = rules("0.0.0.0", allowed_hosts=("code-interpreter",), cors_origins=())
    assert refusal(listed, host="code-interpreter:8000", origin=None) is None
    assert refusal(listed, host="10.0.0.7:8000", origin=None) is None
    assert refusal(listed, host="evil.example", origin=None) is not None


def test_every_origin_may_be_allowed() -> None:
    assert (
        refusal(rules("::1", allowed_hosts=(), cors_origins=("*",)), host="[::1]", origin="https://x.example") is None
    )


async def test_a_client_that_leaves_cancels_the_work() -> None:
    cancelled = anyio.Event()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    client = Client(lambda: None)
    async with anyio.create_task_group() as group:
        group.start_soon(_leaves_soon, client)
        with pytest.raises(ClientGone):
            await while_connected(work, {CLIENT: client})
    assert cancelled.is_set()


async def _leaves_soon(client: Client) -> None:
    client.leave()


async def test_nothing_is_begun_for_a_client_that_has_left() -> None:
    client = Client(lambda: None)
    client.leave()
    with pytest.raises(ClientGone):
        await while_connected(anyio.sleep_forever, {CLIENT: client})


async def test_a_result_is_a_result_though_the_client_leaves_that_moment() -> None:
    client = Client(lambda: None)

    async def work() -> int:
        client.leave()
        return 1

    assert await while_connected(work, {CLIENT: client}) == 1


async def test_whoever_cancels_a_call_is_not_told_that_its_client_has_gone() -> None:
    client = Client(lambda: None)
    with anyio.CancelScope() as outer:
        outer.cancel()
        await while_connected(anyio.sleep_forever, {CLIENT: client})
    assert outer.cancelled_caught
    client.leave()


async def test_a_companion_that_raises_after_the_work_is_too_late() -> None:
    done = anyio.Event()

    async def work() -> int:
        done.set()
        return 1

    async def companion() -> None:
        with anyio.CancelScope(shield=True):
            await done.wait()
        raise ClientGone("late")

    assert await alongside(work, companion) == 1


async def test_errors_of_the_work_come_out_bare() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await alongside(work, anyio.sleep_forever)


def test_an_error_is_found_inside_its_groups() -> None:
    inner = ZeroDivisionError()
    assert bare(ExceptionGroup("", [ExceptionGroup("", [inner])])) is inner


def test_places_name_functions_and_no_words() -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        raise ValueError("secret program")
    assert places(caught.value)[-1].endswith("test_places_name_functions_and_no_words")
    assert "secret" not in str(places(caught.value))
