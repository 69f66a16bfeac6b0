"""A run whose channel is lost is heard out through another; over channels that end where the test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import anyio
import pytest

from pool.conversation import SILENCE_SECONDS, Conversation
from pool.errors import ChannelLost, RemoteProtocolError, SandboxLost
from pool.program import Program
from pool.settings import RunLimits
from sandbox_runtime import wire
from tests.fakes.clock import in_virtual_time
from tests.fakes.sinks import KeepingSink
from tests.fakes.supervisor import HELLO, outcome

ONE, TWO, THREE = (wire.Output(stream="stdout", data=data) for data in (b"1", b"2", b"3"))
BARE = wire.Hello(**{**cast("dict[str, Any]", HELLO.fields()), "missing": ["landlock"]})
PROGRAM = Program(code="print(123, sep='')", timeout_ms=2000)


class Scripted:
    """A channel that says what it is given, once it has been spoken to; then it is lost, or silent for ever."""

    def __init__(self, script: Callable[[str], list[tuple[str, wire.Message]]], *, then_silent: bool = False) -> None:
        self.heard: list[tuple[str, wire.Message]] = []
        self._script, self._then_silent = script, then_silent
        self._reader, self._writer = wire.Reader(wire.FROM_BROKER), wire.Writer()
        self._said: bytes | None = None
        self._run = anyio.Event()
        self.greeting: list[tuple[str, wire.Message]] = [("", HELLO)]

    async def send(self, data: bytes) -> None:
        self.heard += self._reader.feed(data)
        for run, message in self.heard:
            if isinstance(message, wire.Run | wire.Attach) and self._said is None:
                self._said = b"".join(self._writer.line(each, run_id) for run_id, each in self._script(run))
                self._run.set()

    async def receive(self) -> bytes:
        if self.greeting:
            line = b"".join(self._writer.line(each, run) for run, each in self.greeting)
            self.greeting = []
            return line
        await self._run.wait()
        if not self._said:
            if self._then_silent:
                await anyio.sleep_forever()
            raise ChannelLost("the stream has ended")
        said, self._said = self._said, b""
        return said

    def kinds(self) -> list[str]:
        return [message.kind for _, message in self.heard]


def frames(*messages: wire.Message) -> Callable[[str], list[tuple[str, wire.Message]]]:
    return lambda run: [(run, each) for each in messages]


class Sandbox:
    """Gives one channel after the other."""

    def __init__(self, *channels: Any) -> None:
        self.channels = list(channels)
        self.used: list[Any] = []

    async def reconnect(self) -> Any:
        next_one = self.channels.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        self.used.append(next_one)
        run = next((run for channel in self.used for run, _ in channel.heard if run), "")
        if len(self.used) > 1 and isinstance(next_one, Scripted) and next_one.greeting == [("", HELLO)]:
            next_one.greeting.append((run, wire.Kept()))
        return next_one


async def ran(sandbox: Sandbox, deadline_seconds: float = 10.0) -> tuple[Any, str, Conversation]:
    conversation = Conversation(await sandbox.reconnect(), RunLimits(), sandbox.reconnect)
    await conversation.hello(anyio.current_time() + 1)
    sink = KeepingSink()
    ended = await conversation.run(PROGRAM, (), sink, anyio.current_time() + deadline_seconds)
    return ended, sink.streams["stdout"].decode(), conversation


@in_virtual_time
async def test_what_came_before_is_not_asked_for_again():
    rest = Scripted(frames(THREE, outcome()))
    sandbox = Sandbox(Scripted(frames(ONE, TWO)), rest)
    ended, printed, conversation = await ran(sandbox)
    assert (ended.exit_code, printed, conversation.reattached) == (0, "123", True)
    assert rest.heard[0][1] == wire.Attach(heard=2)


@in_virtual_time
async def test_a_run_that_lost_nothing_is_no_reattached_one():
    _, printed, conversation = await ran(Sandbox(Scripted(frames(ONE, TWO, THREE, outcome()))))
    assert (printed, conversation.reattached) == ("123", False)


@in_virtual_time
async def test_a_stream_that_says_nothing_is_given_up_after_a_ping():
    silent = Scripted(frames(ONE), then_silent=True)
    began = anyio.current_time()
    _, printed, _ = await ran(Sandbox(silent, Scripted(frames(TWO, THREE, outcome()))))
    assert printed == "123"
    assert silent.kinds()[-1] == "ping"
    assert 2 * SILENCE_SECONDS <= anyio.current_time() - began < 2 * SILENCE_SECONDS + 1


@in_virtual_time
async def test_while_its_program_runs_nobody_is_let_in():
    busy = Scripted(frames())
    busy.greeting = [("", wire.Busy())]
    refused = ChannelLost("the API server did not answer")
    _, printed, _ = await ran(Sandbox(Scripted(frames(ONE)), busy, refused, Scripted(frames(TWO, THREE, outcome()))))
    assert printed == "123"


@in_virtual_time
async def test_without_landlock_nothing_is_execd_while_the_program_may_run():
    first, second = Scripted(frames(ONE)), Scripted(frames(TWO, THREE, outcome()))
    first.greeting = [("", BARE)]
    began = anyio.current_time()
    _, printed, _ = await ran(Sandbox(first, second))
    assert printed == "123"
    assert anyio.current_time() - began >= PROGRAM.timeout_ms / 1000


@in_virtual_time
async def test_without_landlock_and_without_time_for_another_channel_it_is_lost_at_once():
    first = Scripted(frames(ONE))
    first.greeting = [("", BARE)]
    with pytest.raises(SandboxLost, match="another may not be had"):
        await ran(Sandbox(first), deadline_seconds=1.5)


@in_virtual_time
async def test_at_the_deadline_it_is_lost():
    refusals = [ChannelLost("the API server did not answer")] * 100
    began = anyio.current_time()
    with pytest.raises(SandboxLost, match="no other came in time"):
        await ran(Sandbox(Scripted(frames(ONE)), *refusals), deadline_seconds=4.0)
    assert anyio.current_time() - began <= 4.0


@in_virtual_time
async def test_a_sandbox_that_is_gone_is_lost_at_once():
    with pytest.raises(SandboxLost, match="its pod is gone"):
        await ran(Sandbox(Scripted(frames(ONE)), SandboxLost("its pod is gone")))


@pytest.mark.parametrize("run", ["", "another"])
@in_virtual_time
async def test_whoever_does_not_know_the_run_is_not_its_supervisor(run: str):
    impostor = Scripted(frames(TWO, outcome()))
    impostor.greeting = [("", HELLO), (run, wire.Kept())]
    with pytest.raises(SandboxLost, match="knows nothing of the run"):
        await ran(Sandbox(Scripted(frames(ONE)), impostor))


@in_virtual_time
async def test_a_supervisor_without_a_greeting_is_none():
    impostor = Scripted(frames())
    impostor.greeting = [("", wire.Pong(nonce=1))]
    with pytest.raises(RemoteProtocolError):
        await ran(Sandbox(Scripted(frames(ONE)), impostor))


@in_virtual_time
async def test_an_outcome_is_acknowledged_once_and_nobody_waits_for_that():
    channel = Scripted(frames(outcome()))
    _, _, conversation = await ran(Sandbox(channel))
    assert "ack" not in channel.kinds()
    for _ in range(2):
        await conversation.acknowledge(anyio.current_time() + 1)
    assert channel.kinds().count("ack") == 1
