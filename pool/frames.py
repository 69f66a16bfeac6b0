"""Frames over one channel, both ways: encoding and strict decoding, nothing of what they mean.

Whoever gets an exception from here must not use it again: the two ends may disagree about where in the stream they are.
"""

from __future__ import annotations

from collections import deque

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from pool.backend import Channel
from pool.errors import RemoteProtocolError, SandboxLost
from sandbox_runtime import wire

SEND_BYTES = 64 * 1024
"""Frames are gathered up to this before they are sent. Smaller means more calls for one small run; larger
holds more of an upload in memory and gains nothing, as one frame with a whole chunk is about as long."""

DECODE_BYTES = 16 * 1024
"""So much is decoded before others get a turn: some 150 of the smallest frames, about 3 ms. Smaller takes more
turns of the loop for a big file; larger lets a program that prints byte by byte hold up everybody else."""


class Frames:
    """One for the life of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._writer = wire.Writer()
        self._reader = wire.Reader(wire.FROM_SANDBOX, loads=msgspec.json.decode)
        self._heard: deque[tuple[str, wire.Message]] = deque()
        self._undecoded: deque[bytes] = deque()
        self._gathered = bytearray()
        self._pings = 0

    def speak(self, version: int) -> None:
        """From here on in this version. Nothing has been said before."""
        self._writer.version = version

    # --- saying ---

    async def gather(self, message: wire.Message, run: str) -> None:
        """Say it with what comes next, in as few pieces as can be."""
        self._gathered += self._writer.line(message, run)
        if len(self._gathered) >= SEND_BYTES:
            await self.flush()

    async def flush(self) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        await self._channel.send(data)

    async def say(self, message: wire.Message, deadline: float, run: str = "") -> None:
        with anyio.CancelScope(deadline=deadline) as scope:
            await self.gather(message, run)
            await self.flush()
        if scope.cancelled_caught:
            raise SandboxLost("it takes nothing in")

    async def ping(self, deadline: float) -> int:
        """Ask for a sign of life; returns the number that its `pong` is to have."""
        self._pings += 1
        await self.say(wire.Ping(nonce=self._pings), deadline)
        return self._pings

    async def probe(self, deadline: float) -> None:
        """The same, and get it: nothing else may come before it."""
        nonce = await self.ping(deadline)
        run, message = await self.next(deadline, "pong")
        if run or message != wire.Pong(nonce=nonce):
            raise RemoteProtocolError(f"a {message.kind} frame in place of pong {nonce}")

    # --- hearing ---

    async def next(self, deadline: float, awaited: str) -> tuple[str, wire.Message]:
        """The next frame, and its run. Raises `SandboxLost` where none came in time."""
        heard = await self.next_by(deadline, awaited)
        if heard is None:
            raise SandboxLost(f"it fell silent: {awaited} did not come in time")
        return heard

    async def next_by(self, until: float, awaited: str) -> tuple[str, wire.Message] | None:
        """The same, or None where nothing came by then; it can be listened to again."""
        while not self._heard:
            if self._undecoded:
                await checkpoint()
            else:
                data = await self._receive(until, awaited)
                if data is None:
                    return None
                self._take(data)
            self._heard.extend(self._decode(self._undecoded.popleft()))
        return self._heard.popleft()

    def expect_silence(self) -> None:
        if self._heard or self._undecoded:
            raise RemoteProtocolError("it talked on where there was nothing to say")

    def _take(self, data: bytes) -> None:
        self._undecoded.extend(data[start : start + DECODE_BYTES] for start in range(0, len(data), DECODE_BYTES))

    async def _receive(self, until: float, awaited: str) -> bytes | None:
        with anyio.CancelScope(deadline=until) as scope:
            data = await self._channel.receive()
            # A channel that always has bytes never suspends, and so is never cancelled: look at the clock too.
            if anyio.current_time() <= until:
                return data
        if scope.cancelled_caught:
            return None
        raise SandboxLost(f"it talked on: {awaited} did not come in time")

    def _decode(self, data: bytes) -> list[tuple[str, wire.Message]]:
        try:
            return self._reader.feed(data)
        except wire.WireError as error:
            raise RemoteProtocolError(str(error)) from error
