"""One of the channels of a session: frames both ways, and its end. It never waits."""

from __future__ import annotations

import os
import time

from sandbox_runtime import outbox, wire
from sandbox_runtime.polling import READABLE, WRITABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Callable

    from sandbox_runtime.calls import Draft
    from sandbox_runtime.polling import Loop

    Heard = Callable[["Line", str, wire.Message], None]
    Lost = Callable[["Line"], None]

READ_BYTES = 256 * 1024
STANDARD_STREAMS = (0, 1, 2)


class Line:
    """Open until its channel ends, or what comes on it is no protocol."""

    def __init__(
        self, channel: outbox.Channel, reader: wire.Reader, outgoing: outbox.Outbox, *, proved: bool, peer: int = 0
    ) -> None:
        """`peer` is the pid at the other end of one that came through the door."""
        self.is_open, self.peer = True, peer
        self.used_at = time.monotonic()
        """When something was last said, either way."""
        self.is_proved = proved
        self.draft: Draft | None = None
        """What it has said so far of its next call."""
        self._channel, self._reader, self._outgoing = channel, reader, outgoing

    def attach(self, loop: Loop, heard: Heard, lost: Lost) -> None:
        """Tell `heard` of each frame from here on, and `lost` once of the end."""
        self._loop, self._heard, self._lost = loop, heard, lost
        os.set_blocking(self._channel.reading, False)
        os.set_blocking(self._channel.writing, False)
        loop.on(self._channel.reading, self._receive)

    def say(self, message: wire.Message, run_id: str = "") -> None:
        self.used_at = time.monotonic()
        self._outgoing.say(message, run_id)
        self._flush()

    def output(self, stream: str, data: bytes, run_id: str) -> None:
        self._outgoing.output(stream, data, run_id)
        self._flush()

    def has_room(self) -> bool:
        return self._outgoing.held_bytes() < outbox.FULL_BYTES

    def close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        for descriptor in {self._channel.reading, self._channel.writing}:
            self._loop.off(descriptor)
            # SECURITY: those of the exec stay: containerd closes its stdin with them (containerd#12734).
            if descriptor not in STANDARD_STREAMS:
                os.close(descriptor)
        self._lost(self)

    def _receive(self) -> None:
        try:
            data = os.read(self._channel.reading, READ_BYTES)
            heard = self._reader.feed(data)
        except BlockingIOError:
            return
        except (OSError, wire.WireError):
            data, heard = b"", []
        self.used_at = time.monotonic()
        for run_id, message in heard:
            if self.is_open:
                self._heard(self, run_id, message)
        if not data:
            self.close()

    def _flush(self) -> None:
        if not self.is_open:
            return
        try:
            is_empty = self._outgoing.send()
        except OSError:
            self.close()
            return
        channel = self._channel
        if channel.reading == channel.writing:
            self._loop.on(channel.reading, self._exchange, READABLE if is_empty else READABLE | WRITABLE)
        elif is_empty:
            self._loop.off(channel.writing)
        else:
            self._loop.on(channel.writing, self._flush, WRITABLE)

    def _exchange(self) -> None:
        self._flush()
        if self.is_open:
            self._receive()


def through_the_door(connection: socket.socket, peer: int) -> Line:
    """Another channel, which has to prove itself."""
    number = connection.detach()
    channel = outbox.Channel(number, number)
    return Line(channel, wire.Reader(wire.FROM_BROKER), outbox.Outbox(channel), proved=False, peer=peer)
