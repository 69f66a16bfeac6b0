"""The protocol between the broker and a sandbox's supervisor. Pure, standard library only.

Rule 1: every message, limit and version that crosses the channel is defined here, in `messages.py` and in
        `checks.py`, and nowhere else. The broker imports this file; the image ships all three.
Rule 2: this file does no I/O, and does not know which side it is running on.
Rule 3: a peer is hostile. Bytes are either the messages below or a `WireError`, nothing else.

One frame is one line of ASCII JSON:

    {"v":3,"kind":"output","run":"7f…","seq":4,"body":{"stream":"stdout","data":"aGkK"}}

`run` names the run that a frame belongs to ("" outside of one), `seq` counts the frames of one
direction from 0 without a gap, bytes are base64. A run is: any number of `stage`, one `run`; then
any number of `output`, then any number of `file`, then exactly one `outcome` (or `refused` alone).

Version 2 adds what a channel that may be lost under a run needs (`kept`, `attach`, `ack`, `busy`), cleaning (`clean`,
`cleaned`) and the proof that nothing can be reached (`reach`, `reached`). Version 3 adds sessions (`session`, `opened`,
`prove`, `shell`), in which programs `run`, too, and may be `refused` for two reasons more. Each end speaks the version
before, too.

The classes are plain ones with `__slots__`, because importing `dataclasses` costs a supervisor
10 ms; the slots' dictionary doubles as the table of checks that both ends apply.
"""

from __future__ import annotations

import binascii
import json

from sandbox_runtime import checks
from sandbox_runtime.checks import chunk, text
from sandbox_runtime.messages import (
    FROM_BROKER,
    FROM_SANDBOX,
    REASONS,
    RESOURCES,
    SKIP_REASONS,
    STREAMS,
    Ack,
    Attach,
    Busy,
    Cancel,
    Clean,
    Cleaned,
    File,
    Hello,
    Kept,
    Message,
    Opened,
    Outcome,
    Output,
    Ping,
    Pong,
    Prove,
    Reach,
    Reached,
    Refused,
    Run,
    Session,
    Shell,
    Stage,
    UnknownVersion,
    WireError,
    quoted,
    skipped,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Loads = Callable[[bytes], object]

__all__ = [
    "FROM_BROKER",
    "FROM_SANDBOX",
    "MAX_CHUNK_BYTES",
    "MAX_LINE_BYTES",
    "PROTOCOL",
    "REASONS",
    "RESOURCES",
    "SKIP_REASONS",
    "SPOKEN",
    "STREAMS",
    "Ack",
    "Attach",
    "Busy",
    "Cancel",
    "Clean",
    "Cleaned",
    "File",
    "Hello",
    "Kept",
    "Lines",
    "Message",
    "Opened",
    "Outcome",
    "Output",
    "Ping",
    "Pong",
    "Prove",
    "Reach",
    "Reached",
    "Reader",
    "Refused",
    "Run",
    "Session",
    "Shell",
    "Stage",
    "UnknownVersion",
    "WireError",
    "Writer",
    "decode",
    "skipped",
]

PROTOCOL = 3
SPOKEN = (2, 3)
"""A broker and an image of neighbouring releases understand each other."""

MAX_CHUNK_BYTES = checks.MAX_CHUNK_BYTES

MAX_LINE_BYTES = 128 * 1024
"""One frame with its envelope. Must hold a chunk in base64, and `run` with its arguments and
environment (`MAX_ARGUMENT_BYTES`) with every character escaped."""

# --- frames ---------------------------------------------------------------------------------


def _plain(value: object) -> object:
    return binascii.b2a_base64(value, newline=False).decode("ascii") if type(value) is bytes else value


class Writer:
    """Turns messages into lines, counting them. One for each direction of a channel."""

    __slots__ = ("_seq", "version")

    def __init__(self, version: int = PROTOCOL) -> None:
        self.version = version
        """As the other end speaks it."""
        self._seq = 0

    def line(self, message: Message, run: str = "") -> bytes:
        body = {name: _plain(value) for name, value in message.fields().items()}
        frame = {"v": self.version, "kind": message.kind, "run": run, "seq": self._seq, "body": body}
        line = json.dumps(frame, separators=(",", ":")).encode("ascii") + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise WireError(f"a {message.kind} frame of {len(line)} bytes, at most {MAX_LINE_BYTES}")
        self._seq += 1
        return line


class Lines:
    """Splits bytes into lines in O(bytes), holding at most one line."""

    __slots__ = ("_data", "_searched")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        self._data += data
        end = self._data.rfind(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._data)
            _bounded(self._searched)
            return []
        lines = bytes(self._data[:end]).split(b"\n")
        del self._data[: end + 1]
        self._searched = len(self._data)
        for length in [self._searched, *map(len, lines)]:
            _bounded(length)
        return lines


def _bounded(length: int) -> None:
    if length >= MAX_LINE_BYTES:
        raise WireError(f"a line of {length} bytes or more, at most {MAX_LINE_BYTES}")


class Reader:
    """Turns bytes into `(run, message)` pairs, or raises `WireError`; after that it is of no more use.

    `kinds` are the messages that the peer may send; `loads` parses JSON (the broker passes a faster one).
    """

    __slots__ = ("_lines", "_kinds", "_seq", "_loads")

    def __init__(self, kinds: frozenset[type[Message]], loads: Loads = json.loads) -> None:
        self._lines = Lines()
        self._kinds = {each.kind: each for each in kinds}
        self._seq = 0
        self._loads = loads

    def feed(self, data: bytes) -> list[tuple[str, Message]]:
        return [self._frame(line) for line in self._lines.feed(data)]

    def _frame(self, line: bytes) -> tuple[str, Message]:
        run, kind, body = self._envelope(line)
        if kind not in self._kinds:
            raise WireError(f"unexpected kind {quoted(kind)}")
        self._seq += 1
        return run, decode(self._kinds[kind], body)

    def _envelope(self, line: bytes) -> tuple[str, str, dict[str, object]]:
        frame = _parsed(line, self._loads)
        if type(frame) is not dict or frame.keys() != {"v", "kind", "run", "seq", "body"}:
            raise WireError(f"not a frame: {quoted(line)}")
        if type(frame["v"]) is not int or frame["v"] not in SPOKEN:
            raise UnknownVersion(f"protocol version {quoted(frame['v'])}, spoken are {SPOKEN}")
        if frame["seq"] != self._seq or type(frame["seq"]) is not int:
            raise WireError(f"frame number {quoted(frame['seq'])}, want {self._seq}")
        if not text(64)(frame["run"]) or type(frame["kind"]) is not str or type(frame["body"]) is not dict:
            raise WireError(f"not a frame: {quoted(line)}")
        return frame["run"], frame["kind"], frame["body"]


def _parsed(line: bytes, loads: Loads) -> object:
    # RecursionError: "[" * 100000 is a valid line and no valid frame (tests/property/test_wire.py).
    try:
        return loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {quoted(line)}") from error


def decode(cls: type[Message], body: dict[str, object]) -> Message:
    """Make a message from a frame's body: base64 undone, every field checked."""
    return cls(**{name: _raw(value) if cls.checks.get(name) is chunk else value for name, value in body.items()})


def _raw(value: object) -> bytes:
    if type(value) is not str or not value.isascii():
        raise WireError(f"not base64: {quoted(value)}")
    try:
        raw = binascii.a2b_base64(value)
    except binascii.Error as error:
        raise WireError(f"not base64: {quoted(value)}") from error
    # SECURITY: base64 has many spellings for the same bytes; only ours is taken, so that nothing
    # can ride along in what a lenient decoder skips.
    if binascii.b2a_base64(raw, newline=False) != value.encode("ascii"):
        raise WireError(f"not canonical base64: {quoted(value)}")
    return raw
