"""What the client sends, what it makes of answers, and when it tries again."""

from __future__ import annotations

import json

import httpx
import pytest

from code_interpreter_client import (
    AnswerUnreadable,
    AsyncClient,
    Client,
    Output,
    Result,
    Retrying,
    RunFailed,
    ServiceRefused,
    SkippedFile,
)
from code_interpreter_client.calls import EventReader, Run, cancel, download, execute, refusal

BUSY = b'{"detail": "8 waiting", "code": "pool_saturated", "retryable": true}'


def refused(*, retryable: bool = True, retry_after_seconds: float | None = 2.0) -> ServiceRefused:
    return ServiceRefused("busy", status=429, code="x", retryable=retryable, retry_after_seconds=retry_after_seconds)


def test_only_what_was_said_is_sent() -> None:
    assert execute(Run("1")).json == {"code": "1"}
    run = Run(
        "1", stdin="", files={"a": "id"}, args=["b"], last_line_interactive=False, idempotency_key="k", session_id="s"
    )
    assert execute(run, stream=True).json == {
        "code": "1",
        "stdin": "",
        "files": [{"path": "a", "file_id": "id"}],
        "args": ["b"],
        "last_line_interactive": False,
        "session_id": "s",
    }
    assert execute(run).headers == {"Idempotency-Key": "k"}


def test_ids_are_no_paths() -> None:
    assert download("../a/b").path == "/v1/files/..%2Fa%2Fb"
    assert cancel("a?b").path == "/v1/executions/a%3Fb"


def test_a_refusal_says_what_the_service_said() -> None:
    error = refusal(429, BUSY, {"retry-after": "3"})
    assert (str(error), error.status, error.code) == ("8 waiting", 429, "pool_saturated")
    assert (error.retryable, error.retry_after_seconds) == (True, 3.0)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"retryable": "yes"}', b"\xff"])
def test_what_a_proxy_says_promises_nothing(body: bytes) -> None:
    assert refusal(502, body, {"retry-after": "soon"}).retryable is False


@pytest.mark.parametrize(
    ("error", "attempt", "seconds"),
    [
        (refused(), 1, 2.0),
        (refused(retry_after_seconds=None), 2, 1.0),
        (refused(), 3, None),
        (refused(retryable=False), 1, None),
        (refused(retry_after_seconds=11.0), 1, None),
    ],
)
def test_it_is_tried_again_where_the_service_says_so_and_not_for_ever(
    error: ServiceRefused, attempt: int, seconds: float | None
) -> None:
    assert Retrying(attempts=3, longest_wait_seconds=10.0).wait_seconds(error, attempt) == seconds


def read(*lines: str) -> list[object]:
    reader = EventReader()
    return [event for event in map(reader.line, lines) if event is not None]


def test_events_are_read_and_comments_and_unknown_ones_passed_over() -> None:
    found = read(
        ": ping", "", "event: output", 'data: {"stream":"stdout","data":"a: b"}', "", "event: news", "data: {}", "",
        "event: result", 'data: {"exit_code":0,"timed_out":false,"duration_ms":1,"files":[],"new":1}', "",
    )  # fmt: skip
    assert found == [Output("stdout", "a: b"), Result(0, False, 1, ())]


UNREADABLE = [
    "null",
    "[]",
    "{}",
    "x",
    "[" * 100_000,
    '{"stream": "screen", "data": ""}',
    '{"stream": "stdout", "data": 1}',
]


@pytest.mark.parametrize("data", UNREADABLE, ids=range(len(UNREADABLE)))
@pytest.mark.parametrize("name", ["output", "result", "error"])
def test_an_event_that_is_none_is_told_from_one(name: str, data: str) -> None:
    with pytest.raises(AnswerUnreadable):
        read(f"event: {name}", f"data: {data}", "")


WHOLE = {"exit_code": 0, "timed_out": False, "duration_ms": 1, "files": [{"path": "p", "file_id": "1"}]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"exit_code": "0"},
        {"timed_out": None},
        {"duration_ms": "1"},
        {"files": {}},
        {"files": [1]},
        {"files": [{"path": 1, "file_id": "1"}]},
        {"files": [{"path": "p", "file_id": "1", "size_bytes": "1"}]},
        {"stdout": 1},
        {"termination": "exited"},
        {"limits_hit": "disk"},
        {"truncated": []},
        {"files_skipped": [{"path": "p"}]},
    ],
    ids=str,
)
def test_what_is_not_of_its_type_is_no_answer(wrong: dict[str, object]) -> None:
    call = execute(Run("1"))
    assert call.read(json.dumps(WHOLE).encode()).files[0].path == "p"
    with pytest.raises(AnswerUnreadable):
        call.read(json.dumps(WHOLE | wrong).encode())


def test_of_a_result_nothing_is_lost() -> None:
    more = {
        "stdout": "a",
        "termination": {"reason": "oom", "signal": "KILL"},
        "limits_hit": ["disk"],
        "truncated": {"stdout": True, "stderr": False},
        "files_skipped": [{"path": "q", "reason": "too_large"}],
    }
    found = execute(Run("1")).read(json.dumps(WHOLE | more).encode())
    assert (found.reason, found.limits_hit, found.truncated) == ("oom", ("disk",), ("stdout",))
    assert found.files_skipped == (SkippedFile("q", "too_large"),)


def test_an_error_event_is_raised() -> None:
    with pytest.raises(RunFailed, match="gone") as caught:
        read("event: error", 'data: {"message":"gone","code":"sandbox_lost","retryable":false}', "")
    assert (caught.value.code, caught.value.retryable) == ("sandbox_lost", False)


class Busy:
    """A service that refuses the first call."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if len(self.asked) == 1:
            return httpx.Response(429, content=BUSY, headers={"Retry-After": "3"})
        body = {"exit_code": 0, "timed_out": False, "duration_ms": 1, "files": [], "stdout": "hi"}
        return httpx.Response(200, json=body)

    async def nap(self, seconds: float) -> None:
        self.slept.append(seconds)

    def is_asked_twice_with(self, key: str) -> bool:
        sent = [(request.headers["authorization"], request.headers["idempotency-key"]) for request in self.asked]
        return sent == [("Bearer secret", key)] * 2 and self.slept == [3.0]


def test_the_blocking_client_tries_again_and_sends_the_same() -> None:
    busy = Busy()
    with httpx.Client(transport=busy.transport, base_url="http://service") as http:
        client = Client(http=http, api_key="secret", sleep=busy.slept.append)
        assert client.execute("print('hi')", idempotency_key="k").stdout == "hi"
    assert busy.is_asked_twice_with("k")


async def test_the_awaiting_client_tries_again_and_sends_the_same() -> None:
    busy = Busy()
    async with httpx.AsyncClient(transport=busy.transport, base_url="http://service") as http:
        client = AsyncClient(http=http, api_key="secret", sleep=busy.nap)
        assert (await client.execute("print('hi')", idempotency_key="k")).stdout == "hi"
    assert busy.is_asked_twice_with("k")


def test_a_key_comes_through_an_address_that_has_a_password() -> None:
    busy = Busy()
    with httpx.Client(base_url="http://user:password@service", transport=busy.transport) as http:
        Client(http=http, api_key="secret", sleep=busy.slept.append).execute("1")
    sent = busy.asked[0].headers
    assert (sent["Authorization"].partition(" ")[0], sent["X-API-Key"]) == ("Basic", "secret")
