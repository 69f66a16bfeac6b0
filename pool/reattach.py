"""Hearing out a run whose channel was lost: the channel is not the run.

    lost ── reconnect ──▶ busy: its program goes on ── a little later, again
                     └──▶ hello, kept ── attach from the frame we lack ──▶ the rest of its frames

SECURITY: `kept` must name the run, which nobody but its supervisor was ever told: a guest that made itself heard here
could not know it (tests/unit/test_reattach.py).
"""

from __future__ import annotations

import random

import anyio

from pool.backend import Reconnect
from pool.errors import ChannelLost, RemoteProtocolError, SandboxLost
from pool.frames import Frames
from sandbox_runtime import wire

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""Between two attempts. Shorter costs a node in trouble 60 ms of CPU each; longer is added to the answer's time."""

GREETING_SECONDS = 5.0
"""For an exec to come to its first word. Shorter gives up on busy nodes; longer waits for a stream that is frozen."""

_random = random.SystemRandom().random


class Reattachment:
    """One for each channel that was lost under a run."""

    def __init__(self, reconnect: Reconnect, run: str) -> None:
        self._reconnect, self._run = reconnect, run

    async def frames(self, heard: int, deadline: float) -> Frames:
        """A channel on which the run's frames come that were not heard yet. Raises `SandboxLost` at the deadline."""
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._attached(heard, deadline)
            except ChannelLost as error:
                if anyio.current_time() + pause_seconds > deadline:
                    raise SandboxLost(f"its channel was lost, and no other came in time: {error}") from error
            await anyio.sleep(pause_seconds * (0.5 + _random() / 2))
            pause_seconds = min(LONGEST_PAUSE_SECONDS, 1.5 * pause_seconds)

    async def _attached(self, heard: int, deadline: float) -> Frames:
        with anyio.CancelScope(deadline=min(deadline, anyio.current_time() + GREETING_SECONDS)) as scope:
            frames = Frames(await self._reconnect())
            await self._recognise(frames)
            await frames.say(wire.Attach(heard=heard), deadline, self._run)
            return frames
        if scope.cancelled_caught:
            raise ChannelLost(f"a new channel said nothing in {GREETING_SECONDS:.0f} s")
        raise AssertionError("a scope that was left has returned or was cancelled")

    async def _recognise(self, frames: Frames) -> None:
        """The supervisor of our run, or nobody."""
        _, first = await frames.next(float("inf"), "hello")
        if isinstance(first, wire.Busy):
            raise ChannelLost("its program is still running")
        if not isinstance(first, wire.Hello):
            raise RemoteProtocolError(f"a {first.kind} frame before hello")
        frames.speak(first.protocol)
        run, second = await frames.next(anyio.current_time() + GREETING_SECONDS, "word of the run")
        if not isinstance(second, wire.Kept) or run != self._run:
            raise SandboxLost("its supervisor knows nothing of the run any more")
