"""What a run has printed, in the order in which it came, for readers who came later or are slower. Pure.

Bytes are held once, by stream; beside them stands whose turn it was until which byte. A program that writes a byte to
each stream in turn would make millions of turns: beyond `MAX_TURNS` the order of the streams is not held any more.
"""

from __future__ import annotations

import msgspec

from pool import Stream

# More keeps the order of stdout and stderr for longer programs; less bounds what a hostile one makes us hold.
MAX_TURNS = 10_000
MAX_PIECE_BYTES = 48 * 1024
"""As the wire has it: one event of a stream is not much longer."""


class Turn(msgspec.Struct, array_like=True):
    stream: Stream
    end: int
    """The first byte of the stream that comes later."""


class OutputLog(msgspec.Struct):
    stdout: bytearray = msgspec.field(default_factory=bytearray)
    stderr: bytearray = msgspec.field(default_factory=bytearray)
    turns: list[Turn] = msgspec.field(default_factory=list)

    def add(self, stream: Stream, data: bytes) -> None:
        held = self.of(stream)
        held += data
        if self.turns and self.turns[-1].stream == stream:
            self.turns[-1].end = len(held)
        elif len(self.turns) < MAX_TURNS:
            self.turns.append(Turn(stream, len(held)))

    def of(self, stream: Stream) -> bytearray:
        return self.stdout if stream == "stdout" else self.stderr


class Reader:
    """One reader's place in a log that may still grow."""

    def __init__(self, log: OutputLog) -> None:
        self._log = log
        self._turn = 0
        self._read: dict[Stream, int] = {"stdout": 0, "stderr": 0}

    def next(self) -> tuple[Stream, bytes] | None:
        """The next piece; None when all has been read that there is."""
        return self._in_turn() or self._rest("stdout") or self._rest("stderr")

    def _in_turn(self) -> tuple[Stream, bytes] | None:
        while self._turn < len(self._log.turns):
            turn = self._log.turns[self._turn]
            if piece := self._piece(turn.stream, turn.end):
                return turn.stream, piece
            if self._turn + 1 == len(self._log.turns):
                return None  # It is the last, and may yet grow.
            self._turn += 1
        return None

    def _rest(self, stream: Stream) -> tuple[Stream, bytes] | None:
        piece = self._piece(stream, len(self._log.of(stream)))
        return (stream, piece) if piece else None

    def _piece(self, stream: Stream, end: int) -> bytes:
        start = self._read[stream]
        piece = bytes(self._log.of(stream)[start : min(end, start + MAX_PIECE_BYTES)])
        self._read[stream] = start + len(piece)
        return piece
