"""What a session may say to a call: every lie costs it the session, with the error that names who is to blame."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from pool import session as pool_session
from pool.errors import (
    InputsRefused,
    LocalProtocolError,
    PoolSaturated,
    PoolTimeout,
    RemoteProtocolError,
    SandboxLost,
)
from pool.frames import Frames
from pool.hearing import OUTCOME_GRACE_SECONDS
from pool.program import Outcome, Program, StagedFile
from pool.session import CANCEL_SECONDS, Session
from pool.settings import RunLimits
from sandbox_runtime import wire
from tests.fakes.clock import in_virtual_time
from tests.fakes.sinks import FailingSink, KeepingSink
from tests.fakes.supervisor import FakeChannel, outcome

LIMITS = RunLimits(output_bytes=10)
CANCELLED = outcome(exit_code=None, reason="cancelled")
NEVER_BEGUN = outcome(exit_code=None, reason="cancelled", duration_ms=0)
Call = Callable[..., Awaitable[Outcome]]
Said = list[tuple[str, wire.Message]]


class Scripted:
    """The sandbox's side: answers each call, and each cancel, with what its script says."""

    def __init__(self, *answers: Callable[[str], Said], to_cancel: Callable[[str], Said] = lambda run: []) -> None:
        self.channel = FakeChannel(self.hear)
        self.heard: Said = []
        self._reader, self._writer = wire.Reader(wire.FROM_BROKER), wire.Writer()
        self._answers, self._to_cancel = list(answers), to_cancel

    def hear(self, data: bytes) -> None:
        for run, message in self._reader.feed(data):
            self.heard.append((run, message))
            if isinstance(message, wire.Shell | wire.Run) and self._answers:
                self._say(self._answers.pop(0)(run))
            elif isinstance(message, wire.Cancel):
                self._say(self._to_cancel(run))

    def _say(self, said: Said) -> None:
        for run, message in said:
            self.channel.say(self._writer.line(message, run))

    def kinds(self) -> list[str]:
        return [message.kind for _, message in self.heard]


def session_of(scripted: Scripted) -> Session:
    return Session(Frames(scripted.channel), LIMITS)


def saying(*messages: wire.Message, of: str | None = None) -> Callable[[str], Said]:
    """About the call, or about another."""
    return lambda run: [(run if of is None else of, message) for message in messages]


def output(data: bytes) -> wire.Output:
    return wire.Output(stream="stdout", data=data)


async def shell(session: Session, sink: KeepingSink | None = None, *, seconds: float = 10.0) -> Outcome:
    deadline = anyio.current_time() + seconds
    return await session.shell("true", timeout_ms=1000, sink=sink or KeepingSink(), deadline=deadline)


async def run(session: Session, program: Program | None = None, *files: StagedFile) -> Outcome:
    deadline = anyio.current_time() + 10.0
    async with session.turn(deadline) as turn:
        return await turn.run(program or Program(code="1"), files, KeepingSink(), deadline)


CALLS = pytest.mark.parametrize("call", [shell, run], ids=["shell", "run"])


# --- lies ---


@CALLS
@pytest.mark.parametrize(
    "lie",
    [
        saying(outcome(), of="another"),
        saying(output(b"x"), of="another"),
        saying(outcome(), of=""),
        saying(wire.Pong(nonce=1)),
        saying(wire.Pong(nonce=1), of=""),
        saying(wire.Opened(left_ms=1)),
        saying(wire.Cleaned(findings=[], evidence={}, runs=0)),
        saying(output(b"x" * 11)),
        saying(output(b"")),
        saying(CANCELLED),
        saying(output(b"x"), NEVER_BEGUN),
        saying(outcome(exit_code=None)),
        saying(wire.File(path="a", data=b"", last=True), output(b"x")),
        saying(output(b"x"), wire.Refused(path="", resource="disk")),
    ],
)
@in_virtual_time
async def test_what_no_call_says_loses_the_session(lie: Callable[[str], Said], call: Call):
    scripted = Scripted(lie)
    session = session_of(scripted)
    with pytest.raises(RemoteProtocolError):
        await call(session)
    assert session.is_lost
    said = list(scripted.heard)
    with pytest.raises(PoolTimeout, match="before this call began"):
        await call(session)
    assert scripted.heard == said


@CALLS
@in_virtual_time
async def test_what_is_said_after_the_end_is_the_next_calls_trouble(call: Call):
    session = session_of(Scripted(saying(outcome(), output(b"late")), saying(outcome())))
    assert (await call(session)).exit_code == 0
    with pytest.raises(RemoteProtocolError, match="of another run"):
        await call(session)
    assert session.is_lost


@in_virtual_time
async def test_what_is_no_frame_loses_the_session():
    scripted = Scripted()
    session = session_of(scripted)
    scripted.channel.say(b"no frame\n")
    with pytest.raises(RemoteProtocolError):
        await shell(session)
    assert session.is_lost


@in_virtual_time
async def test_a_command_is_not_refused():
    session = session_of(Scripted(saying(wire.Refused(path="a", resource="place"))))
    with pytest.raises(RemoteProtocolError):
        await shell(session)
    assert session.is_lost


@CALLS
@in_virtual_time
async def test_the_end_of_its_channel_loses_the_session(call: Call):
    scripted = Scripted()
    session = session_of(scripted)
    scripted.channel.end()
    with pytest.raises(SandboxLost):
        await call(session)
    assert session.is_lost


@CALLS
@in_virtual_time
async def test_one_that_takes_nothing_in_is_lost_soon(call: Call):
    scripted, began = Scripted(), anyio.current_time()
    scripted.channel.is_full = True
    session = session_of(scripted)
    with pytest.raises(SandboxLost, match="takes nothing in"):
        await call(session)
    assert session.is_lost
    assert anyio.current_time() - began == pytest.approx(pool_session.SAY_SECONDS)


# --- silence ---


@CALLS
@in_virtual_time
async def test_silence_to_the_deadline_and_after_a_cancel_loses_the_session(call: Call):
    scripted, began = Scripted(), anyio.current_time()
    session = session_of(scripted)
    with pytest.raises(SandboxLost, match="did not come to the end"):
        await call(session)
    assert (session.is_lost, scripted.kinds()[-1]) == (True, "cancel")
    assert anyio.current_time() - began == pytest.approx(10.0 + CANCEL_SECONDS)


@CALLS
@in_virtual_time
async def test_a_call_that_is_late_and_can_be_cancelled_costs_nothing_but_itself(call: Call):
    session = session_of(Scripted(saying(), saying(outcome()), to_cancel=saying(CANCELLED)))
    with pytest.raises(SandboxLost):
        await call(session)
    assert not session.is_lost
    assert (await call(session)).exit_code == 0


@CALLS
@in_virtual_time
async def test_a_call_that_is_late_in_a_queue_of_others_has_never_begun(call: Call):
    session = session_of(Scripted(saying(), saying(outcome()), to_cancel=saying(NEVER_BEGUN)))
    with pytest.raises(PoolTimeout, match="other channels"):
        await call(session)
    assert (await call(session)).exit_code == 0


@CALLS
@in_virtual_time
async def test_a_call_that_waits_there_in_vain_is_told_so_at_once(call: Call):
    session, began = session_of(Scripted(saying(NEVER_BEGUN), saying(outcome()))), anyio.current_time()
    with pytest.raises(PoolTimeout, match="other channels"):
        await call(session)
    assert anyio.current_time() == began
    assert (await call(session)).exit_code == 0


@in_virtual_time
async def test_a_command_may_wait_until_just_its_own_time_and_that_of_its_end_are_left():
    scripted = Scripted(saying(outcome()))
    await shell(session_of(scripted), seconds=10.0)
    kept_ms = 1000 + round(OUTCOME_GRACE_SECONDS * 1000)
    assert scripted.heard[-1][1] == wire.Shell(timeout_ms=1000, wait_ms=10_000 - kept_ms)


# --- what is not its fault ---


@in_virtual_time
async def test_a_caller_who_leaves_costs_nothing_but_the_call():
    session = session_of(Scripted(saying(), saying(outcome()), to_cancel=saying(output(b"x"), CANCELLED)))
    with anyio.move_on_after(1):
        await run(session)
    assert not session.is_lost
    assert (await run(session)).exit_code == 0


@in_virtual_time
async def test_a_sink_that_fails_costs_nothing_but_the_call():
    session = session_of(Scripted(saying(output(b"x")), saying(outcome()), to_cancel=saying(CANCELLED)))
    with pytest.raises(OSError, match="No space left"):
        await shell(session, FailingSink())
    assert not session.is_lost
    assert (await shell(session)).exit_code == 0


class Unread(Exception):
    pass


def unreadable() -> StagedFile:
    async def read() -> AsyncIterator[bytes]:
        yield b"x" * wire.MAX_CHUNK_BYTES * 3
        raise Unread

    return StagedFile(path="a", read=read)


@in_virtual_time
async def test_an_input_that_cannot_be_read_costs_nothing_but_the_call():
    scripted = Scripted(saying(outcome()), to_cancel=saying(CANCELLED))
    session = session_of(scripted)
    with pytest.raises(Unread):
        await run(session, None, unreadable())
    assert (session.is_lost, scripted.kinds()[-1]) == (False, "cancel")
    assert (await run(session)).exit_code == 0


def slow() -> StagedFile:
    async def read() -> AsyncIterator[bytes]:
        yield b"x"
        await anyio.sleep_forever()

    return StagedFile(path="a", read=read)


@in_virtual_time
async def test_an_input_that_does_not_come_is_told_before_the_program_began():
    session = session_of(Scripted(saying(outcome()), to_cancel=saying(CANCELLED)))
    with pytest.raises(PoolTimeout, match="could not be read in time"):
        await run(session, None, slow())
    assert (await run(session)).exit_code == 0


@in_virtual_time
async def test_a_program_that_cannot_be_said_is_our_fault_and_nothing_is_said_of_it():
    scripted = Scripted(saying(outcome()))
    session = session_of(scripted)
    with pytest.raises(LocalProtocolError):
        await run(session, Program(code="\ud800"))
    assert (session.is_lost, scripted.heard) == (False, [])


@in_virtual_time
async def test_a_refusal_of_inputs_leaves_the_session_as_it_is():
    session = session_of(Scripted(saying(wire.Refused(path="a", resource="place")), saying(outcome())))
    with pytest.raises(InputsRefused, match="a has no place in the session's workspace"):
        await run(session)
    assert (await run(session)).exit_code == 0


# --- turns ---


@in_virtual_time
async def test_a_turn_that_does_not_come_in_time_is_refused_with_nothing_said():
    scripted = Scripted()
    session = session_of(scripted)
    async with session.turn(anyio.current_time() + 1), anyio.create_task_group() as group:
        group.start_soon(_wait_in_vain, session)
    assert scripted.heard == []


@in_virtual_time
async def test_only_so_many_wait():
    session = session_of(Scripted())
    async with session.turn(anyio.current_time() + 1), anyio.create_task_group() as group:
        for _ in range(pool_session.MOST_WAITING):
            group.start_soon(_wait_in_vain, session)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(PoolSaturated, match=f"{pool_session.MOST_WAITING} calls of this session are waiting"):
            await shell(session)


async def _wait_in_vain(session: Session) -> None:
    with pytest.raises(PoolTimeout, match=r"waited 1\.00 s for the session's other calls"):
        await shell(session, seconds=3.0)


@in_virtual_time
async def test_who_is_refused_is_told_how_long_a_call_takes():
    session, told = session_of(Scripted()), []

    async def ask() -> None:
        with pytest.raises(PoolTimeout) as refusal:
            await shell(session, seconds=3.0)
        told.append(refusal.value.retry_after_seconds)

    async with session.turn(anyio.current_time() + 1):
        await anyio.sleep(20)
    async with session.turn(anyio.current_time() + 1), anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(60)
        group.start_soon(ask)
        await anyio.sleep(10)
    assert told == pytest.approx([20.0, 61.0])


@in_virtual_time
async def test_behind_a_sign_of_life_that_does_not_come_the_wait_is_not_taken_for_a_calls():
    session, told = session_of(Scripted()), []

    async def ask() -> None:
        with pytest.raises(PoolTimeout) as refusal:
            await shell(session, seconds=3.0)
        told.append(refusal.value.retry_after_seconds)

    async with anyio.create_task_group() as group:
        group.start_soon(session.probe, anyio.current_time() + 1000)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask)
        await anyio.sleep(5)
        group.cancel_scope.cancel()
    assert told == pytest.approx([1.0], abs=0.2)
