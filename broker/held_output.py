"""What one program or command prints, held until it is answered as a whole."""

from __future__ import annotations

from pool import Stream


class HeldOutput:
    """At most the cap of each stream: the pool passes no more on."""

    def __init__(self) -> None:
        self.data: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    def add(self, stream: Stream, data: bytes) -> None:
        self.data[stream] += data
