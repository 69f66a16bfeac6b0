"""A sandbox that is a session, as one of its channels sees it: one call after the other, each heard out.

Several channels may lead to one: then calls of all of them wait for each other, in the session's own queue.

SECURITY: what it says is held to the same transcript as any run's: it is as hostile
(tests/unit/test_session_channels.py).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from pool.backend import Channel
from pool.errors import ChannelLost, PoolSaturated, PoolTimeout, RemoteProtocolError, SandboxLost
from pool.frames import Frames
from pool.program import Outcome, Sink, outcome_of
from pool.settings import RunLimits
from pool.transcript import Transcript
from sandbox_runtime import wire

MOST_WAITING = 16
"""Calls behind the one that runs. More would be answered too late; fewer refuse agents that ask side by side."""

SAY_SECONDS = 5.0
"""For a session to take a call in. It reads whatever else it does: one that has not by then is stopped, or gone."""

CANCEL_SECONDS = 5.0
"""For a call that is cancelled to say so. Shorter gives up sessions on busy machines; longer holds up the next call."""


class Session:
    """From `Lease.open_session`, or `joined`. Calls wait for each other, in the order in which they came."""

    def __init__(self, frames: Frames, limits: RunLimits) -> None:
        self._frames, self._limits = frames, limits
        self._turn = anyio.Lock()
        self._pings = 0
        self.is_lost = False
        """No call can be made any more."""

    async def shell(self, command: str, *, timeout_ms: int, sink: Sink, deadline: float) -> Outcome:
        """Run `bash -c command` in it. Cancelled, it ends the call and leaves the session as it is.

        `deadline` is for waiting and running together. Raises `PoolTimeout` where other calls left it no time,
        `PoolSaturated` where too many wait, and nothing of it has run; `SandboxLost`, `RemoteProtocolError`.
        """
        async with self._turn_by(deadline - timeout_ms / 1000):
            transcript = Transcript(uuid.uuid4().hex, self._limits)
            with anyio.CancelScope(deadline=deadline):
                return await self._shell(transcript, command, timeout_ms, sink, deadline)
            if _never_began(transcript):
                text = "calls on other channels of this session left it no time; they go on"
                raise PoolTimeout(text, retry_after_seconds=1.0)
            raise SandboxLost("the session did not come to the end of this call in time")

    async def probe(self, deadline: float) -> None:
        """Ask for a sign of life, unless a call is under way. Raises `SandboxLost`, `RemoteProtocolError`."""
        if self._turn.locked():
            return
        async with self._turn:
            self._pings += 1
            await self._frames.say(wire.Ping(nonce=self._pings), deadline)
            run, message = await self._frames.next(deadline, "pong")
            if run or message != wire.Pong(nonce=self._pings):
                raise RemoteProtocolError(f"a {message.kind} frame in place of pong {self._pings}")

    @asynccontextmanager
    async def _turn_by(self, deadline: float) -> AsyncIterator[None]:
        began = anyio.current_time()
        if self._turn.statistics().tasks_waiting >= MOST_WAITING:
            raise PoolSaturated(f"{MOST_WAITING} calls of this session are waiting already", retry_after_seconds=1.0)
        with anyio.CancelScope(deadline=deadline) as scope:
            await self._turn.acquire()
        if scope.cancelled_caught:
            waited_seconds = anyio.current_time() - began
            text = f"waited {waited_seconds:.2f} s for the session's other calls; they go on"
            raise PoolTimeout(text, retry_after_seconds=1.0)
        try:
            yield
        finally:
            self._turn.release()

    async def _shell(
        self, transcript: Transcript, command: str, timeout_ms: int, sink: Sink, deadline: float
    ) -> Outcome:
        if self.is_lost:
            raise PoolTimeout("the session's channel was lost before this call began", retry_after_seconds=1.0)
        try:
            await self._say(transcript.run, command, timeout_ms, deadline)
            return outcome_of(await self._hear_out(transcript, sink, deadline))
        except anyio.get_cancelled_exc_class():
            await self._cancel(transcript)
            raise
        except (SandboxLost, RemoteProtocolError):
            self.is_lost = True
            raise

    async def _say(self, run: str, command: str, timeout_ms: int, deadline: float) -> None:
        data = command.encode()
        # All of it or nothing: half of a call would become the beginning of the next one.
        with anyio.CancelScope(shield=True, deadline=min(deadline, anyio.current_time() + SAY_SECONDS)) as scope:
            for start in range(0, max(1, len(data)), wire.MAX_CHUNK_BYTES):
                piece = data[start : start + wire.MAX_CHUNK_BYTES]
                last = start + wire.MAX_CHUNK_BYTES >= len(data)
                await self._frames.gather(wire.Stage(target="command", path="", data=piece, last=last), run)
            await self._frames.say(wire.Shell(timeout_ms=timeout_ms), deadline, run)
        if scope.cancelled_caught:
            raise SandboxLost("the session takes nothing in")

    async def _hear_out(self, transcript: Transcript, sink: Sink, deadline: float) -> wire.Outcome:
        while not isinstance(transcript.end, wire.Outcome):
            # Whoever waits has a deadline, at which the call is cancelled: first, or it would go on unheard.
            run, message = await self._frames.next(deadline + CANCEL_SECONDS, "an outcome")
            transcript.hear(run, message)
            if isinstance(message, wire.Output):
                await sink.output("stdout" if message.stream == "stdout" else "stderr", message.data)
        return transcript.end

    async def _cancel(self, transcript: Transcript) -> None:
        """End the call, and hear of its end, so that the next one may begin."""
        self.is_lost = transcript.was_cancelled = True
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CANCEL_SECONDS):
            try:
                await self._frames.say(wire.Cancel(), anyio.current_time() + CANCEL_SECONDS, transcript.run)
                while transcript.end is None:
                    run, message = await self._frames.next(float("inf"), "an outcome")
                    transcript.hear(run, message)
                self.is_lost = False
            except (SandboxLost, RemoteProtocolError):
                return


def _never_began(transcript: Transcript) -> bool:
    """A call that was cancelled in the session's queue: one that has begun has taken a millisecond at least."""
    end = transcript.end
    return isinstance(end, wire.Outcome) and end.reason == "cancelled" and end.duration_ms == 0


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
