"""What the channel has not taken yet.

Memory is bounded by the output limits, however slowly the broker reads: frames that do not fit into the channel wait
as they are up to `FULL_BYTES`; after that a program's output waits as plain bytes, of each stream by itself, and
becomes as few frames as can be. A byte in a frame of its own takes a hundred times its size.
"""

from __future__ import annotations

import os

from sandbox_runtime import wire

FULL_BYTES = 256 * 1024
"""Smaller holds less memory; larger keeps the order of the two streams longer, behind a slow reader."""


class Channel:
    """Where the broker is heard and told: one socket, or the two pipes of an exec."""

    __slots__ = ("reading", "writing")

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing


class Outbox:
    """One for the life of a channel. Whatever is put in comes out once, in the order of its stream."""

    def __init__(self, channel: Channel, log: list[wire.Output] | None = None) -> None:
        """All output that becomes frames is added to the log, if there is one: for a channel that may be lost."""
        self._channel = channel
        self._log = log
        self._writer = wire.Writer()
        self._lines = bytearray()
        self._held = {stream: bytearray() for stream in wire.STREAMS}
        self._run = ""

    def say(self, message: wire.Message, run: str = "") -> None:
        """A frame that comes after all output so far."""
        for stream in wire.STREAMS:
            while self._held[stream]:
                self._frame(stream)
        self._lines += self._writer.line(message, run)

    def output(self, stream: str, data: bytes, run: str) -> None:
        """Becomes a frame with what else comes before it is sent, in the order of the two streams."""
        if any(self._held[other] for other in wire.STREAMS if other != stream):
            self._fill()
        self._run = run
        self._held[stream] += data

    def say_again(self, output: wire.Output, run: str) -> None:
        """A frame that was said on a channel before this one."""
        self._run = run
        self._lines += self._writer.line(output, run)

    def inherit(self, former: Outbox) -> None:
        """What waited for a channel that was lost, and is in no frame yet."""
        self._held, self._run = former._held, former._run

    def send(self) -> bool:
        """Send what the channel takes; True when that was all. Raises OSError when nobody is there any more."""
        self._fill()
        while self._lines:
            try:
                del self._lines[: os.write(self._channel.writing, self._lines)]
            except BlockingIOError:
                return False
            self._fill()
        return True

    def held_bytes(self) -> int:
        return len(self._lines) + sum(map(len, self._held.values()))

    def _fill(self) -> None:
        for stream in wire.STREAMS:
            while self._held[stream] and len(self._lines) < FULL_BYTES:
                self._frame(stream)

    def _frame(self, stream: str) -> None:
        held = self._held[stream]
        piece = bytes(held[: wire.MAX_CHUNK_BYTES])
        del held[: wire.MAX_CHUNK_BYTES]
        output = wire.Output(stream=stream, data=piece)
        if self._log is not None:
            self._log.append(output)
        self._lines += self._writer.line(output, self._run)
