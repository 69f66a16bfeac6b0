"""A session as one of its channels sees it: hostile on the other side, and calls of other replicas before ours."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from pool.errors import ChannelLost, PoolTimeout, RemoteProtocolError, SandboxLost
from pool.frames import Frames
from pool.session import Session, joined
from pool.settings import RunLimits
from sandbox_runtime import wire
from tests.fakes.clock import in_virtual_time
from tests.fakes.scripted import Said, Scripted, well
from tests.fakes.sinks import KeepingSink
from tests.fakes.supervisor import outcome

LIMITS = RunLimits(output_bytes=10)
FOR_LONG = 1000.0


def session(answer: Callable[[wire.Message], Said | None] = well) -> tuple[Session, Scripted]:
    channel = Scripted(answer)
    return Session(Frames(channel), LIMITS), channel


async def called(session: Session, *, timeout_ms: int = 1000, wait_seconds: float = 9.0) -> bytes:
    sink = KeepingSink()
    deadline = anyio.current_time() + wait_seconds + timeout_ms / 1000
    await session.shell("true", timeout_ms=timeout_ms, sink=sink, deadline=deadline)
    return bytes(sink.streams["stdout"])


async def join(answer: Callable[[wire.Message], Said | None]) -> tuple[Session, Scripted]:
    channel = Scripted(answer)
    return await joined(channel, "token", protocol=2, limits=LIMITS), channel


# --- another channel ---


@in_virtual_time
async def test_the_token_is_the_first_thing_that_is_said() -> None:
    found, channel = await join(well)
    assert channel.heard == [wire.Prove(token="token")]
    assert await called(found) == b"out"


@in_virtual_time
async def test_who_is_not_let_in_may_try_again() -> None:
    for answer in (lambda _: None, lambda _: [wire.Busy()]):
        with pytest.raises(ChannelLost):
            await join(answer)


@in_virtual_time
async def test_whoever_answers_otherwise_is_no_session() -> None:
    with pytest.raises(RemoteProtocolError, match="pong frame in place of opened"):
        await join(lambda _: [wire.Pong(nonce=1)])


# --- a sign of life ---


@in_virtual_time
async def test_a_probe_wants_its_own_pong() -> None:
    found, _ = session()
    await found.probe(FOR_LONG)
    await found.probe(FOR_LONG)
    lying, _ = session(lambda _: [wire.Pong(nonce=7)])
    with pytest.raises(RemoteProtocolError):
        await lying.probe(FOR_LONG)
    silent, _ = session(lambda _: [])
    with pytest.raises(SandboxLost):
        await silent.probe(1.0)


@in_virtual_time
async def test_no_probe_comes_between_the_frames_of_a_call() -> None:
    found, channel = session(lambda _: [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(called, found)
        await anyio.sleep(1)
        await found.probe(FOR_LONG)
        assert channel.kinds() == ["stage", "shell"]
        tasks.cancel_scope.cancel()


# --- calls ---


@in_virtual_time
async def test_a_call_that_never_began_elsewhere_is_told_as_that() -> None:
    def busy(message: wire.Message) -> Said:
        is_over = isinstance(message, wire.Cancel)
        return [outcome(exit_code=None, reason="cancelled", duration_ms=0)] if is_over else []

    found, channel = session(busy)
    with pytest.raises(PoolTimeout, match="other channels"):
        await called(found)
    assert (channel.kinds(), found.is_lost) == (["stage", "shell", "cancel"], False)


@in_virtual_time
async def test_one_that_had_begun_is_not() -> None:
    found, _ = session(lambda message: well(message) if isinstance(message, wire.Cancel) else [])
    with pytest.raises(SandboxLost):
        await called(found)
    assert not found.is_lost


@in_virtual_time
async def test_those_behind_a_call_that_lost_the_channel_have_not_begun() -> None:
    found, channel = session(lambda message: None if isinstance(message, wire.Shell) else [])
    with pytest.raises(SandboxLost, match="channel was lost under this call") as lost:
        await called(found)
    assert (lost.type, found.is_lost) == (SandboxLost, True)  # and no `ChannelLost`, which never leaves the pool
    with pytest.raises(PoolTimeout, match="before this call began"):
        await called(found)
    assert channel.kinds() == ["stage", "shell"]


@pytest.mark.parametrize(
    "lie",
    [
        [wire.Output(stream="stdout", data=b"x" * 11)],
        [wire.Output(stream="stdout", data=b"")],
        [outcome(exit_code=None, reason="cancelled")],
        [wire.Pong(nonce=1)],
        [wire.File(path="a", data=b"", last=True), wire.Output(stream="stdout", data=b"x")],
    ],
)
def test_what_it_says_is_held_to_the_transcript(lie: list[wire.Message]) -> None:
    @in_virtual_time
    async def told() -> None:
        found, _ = session(lambda message: lie if isinstance(message, wire.Shell) else [])
        with pytest.raises(RemoteProtocolError):
            await called(found)
        assert found.is_lost

    told()
