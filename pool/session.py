"""A sandbox that is a session, as one of its channels sees it: one call after the other, each heard out.

Several channels may lead to one: then calls of all of them wait for each other, in the session's own queue.

SECURITY: what it says is held to the same transcript as any run's: it is as hostile (tests/unit/test_session.py).
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

import anyio

from pool import hearing, policy, staging
from pool.backend import Channel
from pool.errors import (
    ChannelLost,
    InputsRefused,
    LocalProtocolError,
    PoolSaturated,
    PoolTimeout,
    RemoteProtocolError,
    SandboxLost,
)
from pool.frames import Frames
from pool.program import Outcome, Program, Sink, StagedFile, outcome_of
from pool.settings import RunLimits
from pool.transcript import Transcript
from sandbox_runtime import wire

MOST_WAITING = 16
"""Calls behind the one that runs. More would be answered too late; fewer refuse agents that ask side by side."""

SAY_SECONDS = 5.0
"""For a session to take a piece of a call in. It reads whatever else it does: one that has not by then is stopped, or
gone."""

CANCEL_SECONDS = 5.0
"""For a call that is cancelled to say so. Shorter gives up sessions on busy machines; longer holds up the next call."""

Say = Callable[[str], Awaitable[None]]
"""Says all that a call gets, and the word to begin, in the run that it is given."""


class _Late(Exception):
    """The call has not come to its end in time."""


class Session:
    """From `Lease.open_session`, or `joined`. Calls wait for each other, in the order in which they came."""

    def __init__(self, frames: Frames, limits: RunLimits, missing: tuple[str, ...] = ()) -> None:
        self._frames, self._limits = frames, limits
        self.missing = missing
        """Steps of the lock-down that its sandbox does without. One with several channels has Landlock."""
        self._turn = anyio.Lock()
        self.is_lost = False
        """No call can be made any more."""
        self._spoken_of = ""
        """The run of which something was said last."""
        self._turn_began_at = 0.0
        self._turn_seconds = 0.0
        """That a call takes, smoothed."""

    async def shell(self, command: str, *, timeout_ms: int, sink: Sink, deadline: float) -> Outcome:
        """Run `bash -c command` in it. Cancelled, it ends the call and leaves the session as it is.

        `deadline` is for waiting and running together. Raises `PoolTimeout` where other calls left it no time,
        `PoolSaturated` where too many wait, and nothing of it has run; `SandboxLost`, `RemoteProtocolError`.
        """
        begins_by = hearing.latest_start(anyio.current_time(), deadline - timeout_ms / 1000)
        async with self.turn(begins_by):
            say = partial(self._say_command, command, timeout_ms, begins_by)
            try:
                return outcome_of(await self._answer(say, sink, deadline))
            except InputsRefused as error:
                self.is_lost = True
                raise RemoteProtocolError("a refusal of what has nothing to be put anywhere") from error

    async def probe(self, deadline: float) -> None:
        """Ask for a sign of life, unless a call is under way. Raises `SandboxLost`, `RemoteProtocolError`."""
        if self._turn.locked():
            return
        async with self._turn:
            self._turn_began_at = anyio.current_time()
            await self._frames.probe(deadline)

    @asynccontextmanager
    async def turn(self, deadline: float) -> AsyncIterator[Turn]:
        """The right to run one program, when the calls before it have ended. Raises `PoolTimeout`, `PoolSaturated`."""
        began = anyio.current_time()
        if self._turn.statistics().tasks_waiting >= MOST_WAITING:
            text = f"{MOST_WAITING} calls of this session are waiting already"
            raise PoolSaturated(text, retry_after_seconds=self.retry_after_seconds(began))
        with anyio.CancelScope(deadline=deadline) as scope:
            await self._turn.acquire()
        now = anyio.current_time()
        if scope.cancelled_caught:
            text = f"waited {now - began:.2f} s for the session's other calls; they go on"
            raise PoolTimeout(text, retry_after_seconds=self.retry_after_seconds(now))
        self._turn_began_at = now
        try:
            yield Turn(self, now - began)
        finally:
            self._turn_seconds = policy.smoothed(self._turn_seconds or None, anyio.current_time() - now)
            self._turn.release()

    def retry_after_seconds(self, now: float) -> float:
        """As long as a call takes as a rule; or as this one has taken, where that is longer."""
        return policy.retry_after_seconds(max(self._turn_seconds, now - self._turn_began_at))

    async def _run(self, program: Program, files: Sequence[StagedFile], sink: Sink, deadline: float) -> Outcome:
        began = started = time.perf_counter()
        latest_start = hearing.latest_start(anyio.current_time(), deadline - program.timeout_ms / 1000)

        async def say(run: str) -> None:
            nonlocal started
            await self._say_program(program, files, latest_start, run)
            started = time.perf_counter()

        try:
            ended = await self._answer(say, sink, deadline)
        except (wire.WireError, UnicodeEncodeError) as error:
            raise LocalProtocolError(f"a program that cannot be sent: {error}") from error
        return outcome_of(ended, stage_seconds=started - began, run_seconds=time.perf_counter() - started)

    async def _answer(self, say: Say, sink: Sink, deadline: float) -> wire.Outcome:
        if self.is_lost:
            raise PoolTimeout("the session's channel was lost before this call began", retry_after_seconds=1.0)
        transcript, ended = Transcript(uuid.uuid4().hex, self._limits, is_call=True), None
        with suppress(_Late), anyio.CancelScope(deadline=deadline + hearing.SINK_SECONDS):
            ended = await self._call(transcript, say, sink, deadline)
        if transcript.never_began():
            text = "calls on other channels of this session left it no time; they go on"
            raise PoolTimeout(text, retry_after_seconds=1.0)
        if ended is None:
            raise SandboxLost("the session did not come to the end of this call in time")
        return ended

    async def _call(self, transcript: Transcript, say: Say, sink: Sink, deadline: float) -> wire.Outcome:
        try:
            await say(transcript.run)
            await hearing.hear_out(transcript, partial(self._hear_next, transcript), sink, deadline)
        except ChannelLost as error:
            self.is_lost = True
            raise SandboxLost(f"the session's channel was lost under this call: {error}") from error
        except (SandboxLost, RemoteProtocolError):
            self.is_lost = True
            raise
        except BaseException:  # its caller has left, what it gets could not be read, its sink is full, or it is late
            await self._cancel(transcript)
            raise
        return hearing.outcome_in(transcript)

    # --- saying ---

    async def _say_command(self, command: str, timeout_ms: int, begins_by: float, run: str) -> None:
        for piece in staging.of_text("command", command):
            await self._say(piece, run)
        await self._begin(wire.Shell(timeout_ms=timeout_ms, wait_ms=_left_ms(begins_by)), run)

    async def _say_program(self, program: Program, files: Sequence[StagedFile], latest_start: float, run: str) -> None:
        with anyio.CancelScope(deadline=latest_start) as scope:
            async with aclosing(staging.of_run(program, files)) as pieces:
                async for piece in pieces:
                    await self._say(piece, run)
        if scope.cancelled_caught:
            raise PoolTimeout("the program's files could not be read in time", retry_after_seconds=1.0)
        await self._begin(staging.start(program, collect_ms=_left_ms(latest_start)), run)

    async def _say(self, message: wire.Message, run: str) -> None:
        self._spoken_of = run
        with _whole():
            return await self._frames.gather(message, run)
        raise SandboxLost("the session takes nothing in")

    async def _begin(self, message: wire.Message, run: str) -> None:
        with _whole():
            return await self._frames.say(message, math.inf, run)
        raise SandboxLost("the session takes nothing in")

    # --- hearing ---

    async def _hear_next(self, transcript: Transcript, deadline: float) -> wire.Message:
        heard = await self._frames.next_by(deadline, "an outcome")
        if heard is None:
            raise _Late
        transcript.hear(*heard)
        return heard[1]

    async def _cancel(self, transcript: Transcript) -> None:
        """End the call, and hear of its end, so that the next one may begin."""
        if transcript.run != self._spoken_of:
            return
        transcript.was_cancelled = True
        with (
            anyio.CancelScope(shield=True, deadline=anyio.current_time() + CANCEL_SECONDS),
            suppress(SandboxLost, RemoteProtocolError),
        ):
            await self._frames.say(wire.Cancel(), math.inf, transcript.run)
            while transcript.end is None:
                transcript.hear(*await self._frames.next(math.inf, "an outcome"))
        # Not before it is known: whoever leaves meanwhile would take the session with them. The turn keeps others out.
        if transcript.end is None:
            self.is_lost = True


class Turn:
    """The right to run one program in a session. From `Session.turn`, and dead when that has ended."""

    lease_ms = 0.0
    """The sandbox is there."""

    def __init__(self, session: Session, waited_seconds: float) -> None:
        self._session = session
        self.queue_ms = waited_seconds * 1000
        """From asking to having it."""
        self.missing = session.missing

    async def run(self, program: Program, files: Sequence[StagedFile], sink: Sink, deadline: float) -> Outcome:
        """Run a program to its end; what it leaves stays. Cancelled, it ends the program and not the session.

        `deadline` is for staging, run and collection together. Raises `SandboxLost` or `RemoteProtocolError` if the
        session fails, `InputsRefused` if there is no place for what it was given, `PoolTimeout` if that could not be
        read in time, `LocalProtocolError` if we are to blame.
        """
        return await self._session._run(program, files, sink, deadline)


def _left_ms(until: float) -> int:
    return math.floor(max(0.0, until - anyio.current_time()) * 1000)


def _whole() -> anyio.CancelScope:
    """All of a frame or nothing: with half of one on its way, nobody would understand the next."""
    return anyio.CancelScope(shield=True, deadline=anyio.current_time() + SAY_SECONDS)


async def joined(channel: Channel, token: str, *, protocol: int, limits: RunLimits) -> Session:
    """Another channel to a session that is there already. It may take for ever: whoever asks has a deadline.

    Raises `ChannelLost` where another attempt may come through, `RemoteProtocolError`.
    """
    frames = Frames(channel)
    frames.speak(protocol)
    await frames.say(wire.Prove(token=token), math.inf)
    _, heard = await frames.next(math.inf, "opened")
    if isinstance(heard, wire.Busy):
        raise ChannelLost("the session let nobody in")
    if not isinstance(heard, wire.Opened):
        raise RemoteProtocolError(f"a {heard.kind} frame in place of opened")
    return Session(frames, limits)
