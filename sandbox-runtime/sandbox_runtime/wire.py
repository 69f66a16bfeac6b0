"""The protocol between the broker and a sandbox's supervisor. Pure, standard library only.

Rule 1: every message, limit and version that crosses the channel is defined here and nowhere
        else. The broker imports this file; the image ships this file.
Rule 2: this file does no I/O, and does not know which side it is running on.
Rule 3: a peer is hostile. Bytes are either the messages below or a `WireError`, nothing else.

One frame is one line of ASCII JSON:

    {"v":1,"kind":"output","run":"7f…","seq":4,"body":{"stream":"stdout","data":"aGkK"}}

`run` names the run that a frame belongs to ("" outside of one), `seq` counts the frames of one
direction from 0 without a gap, bytes are base64. A run is: any number of `stage`, one `run`; then
any number of `output`, then any number of `file`, then exactly one `outcome` (or `refused` alone).

The classes are plain ones with `__slots__`, because importing `dataclasses` costs a supervisor
10 ms; the slots' dictionary doubles as the table of checks that both ends apply.
"""

from __future__ import annotations

import binascii
import json

from sandbox_runtime import checks
from sandbox_runtime.checks import (
    MAX_ARGUMENT_BYTES,
    MAX_PATH_BYTES,
    chunk,
    flag,
    integer,
    many,
    numbers_by_name,
    one_of,
    optional,
    relative_path,
    relative_path_or_none,
    text,
    texts_by_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, ClassVar

    from typing_extensions import dataclass_transform

    Check = Callable[[object], bool]
    Loads = Callable[[bytes], object]
else:

    def dataclass_transform(**_):
        return lambda cls: cls


PROTOCOL = 1
MAX_CHUNK_BYTES = checks.MAX_CHUNK_BYTES

MAX_LINE_BYTES = 128 * 1024
"""One frame with its envelope. Must hold a chunk in base64, and `run` with its arguments and
environment (`MAX_ARGUMENT_BYTES`) with every character escaped."""

STREAMS = ("stdout", "stderr")
REASONS = ("exited", "timeout", "oom", "signal", "output_limit", "process_limit", "cancelled")
RESOURCES = ("disk", "inodes", "open_files", "file_size", "processes", "memory")
SKIP_REASONS = (
    "not_regular",
    "hard_link",
    "too_late",
    "too_large",
    "too_many",
    "total_too_large",
    "unreadable",
    "name_not_utf8",
    "too_deep",
)


class WireError(ValueError):
    """What arrived is not the protocol. The message quotes at most 60 characters of it."""


def _quote(value: object) -> str:
    return repr(value)[:60]


def skipped(value: object) -> bool:
    """One file that was left out: [path, reason]."""
    return (
        type(value) is list and len(value) == 2 and text(MAX_PATH_BYTES)(value[0]) and one_of(*SKIP_REASONS)(value[1])
    )


# --- messages -------------------------------------------------------------------------------


@dataclass_transform(kw_only_default=True, eq_default=True)
class Message:
    """One message. Immutable by custom; made with keywords, each held by its check."""

    __slots__ = ()
    kind: ClassVar[str]
    checks: ClassVar[dict[str, Check]]

    def __init_subclass__(cls) -> None:
        cls.checks = cls.__dict__["__slots__"]

    def __init__(self, /, **fields: object) -> None:  # `/`: a peer may call a field "self"
        if fields.keys() != self.checks.keys():
            raise WireError(f"{self.kind} has fields {_quote(sorted(fields))}, needs {sorted(self.checks)}")
        for name, value in fields.items():
            if not self.checks[name](value):
                raise WireError(f"{self.kind}.{name} cannot be {_quote(value)}")
            object.__setattr__(self, name, value)

    def fields(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.checks}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Message) and self.fields() == other.fields()

    __hash__ = None  # type: ignore[assignment]  # equal by value and mutable: no place in a set

    def __repr__(self) -> str:
        return "{}({})".format(
            type(self).__name__, ", ".join(f"{name}={_quote(v)}" for name, v in self.fields().items())
        )


class Hello(Message):
    """Sandbox: first of all, once a child is armed. What it is, and what holds it."""

    kind = "hello"
    __slots__ = {
        "protocol": integer(0),
        "runtime": text(64),
        "python": text(64),
        "lockdown": many(text(64)),
        "missing": many(text(64)),
        "preloaded": many(text(64)),
        "limits": numbers_by_name,
        "runs": integer(0),
    }
    protocol: int
    runtime: str
    python: str
    lockdown: list[str]
    """Names of the lock-down steps that were applied to the armed child."""
    missing: list[str]
    """Names of the steps that this kernel could not apply."""
    preloaded: list[str]
    limits: dict[str, int]
    runs: int


class Ping(Message):
    """Broker: are you there? Answered by `pong` with the same nonce; after a run's end only when it is collected."""

    kind = "ping"
    __slots__ = {"nonce": integer(0)}
    nonce: int


class Pong(Message):
    """Sandbox: still here, the armed child too."""

    kind = "pong"
    __slots__ = {"nonce": integer(0)}
    nonce: int


class Stage(Message):
    """Broker: a piece of what the run gets. Pieces of one target come in order, `last` ends it.

    `code` is the program, `stdin` its standard input (absent: empty), `file` an input at `path` ("" for the others).
    """

    kind = "stage"
    __slots__ = {
        "target": one_of("code", "stdin", "file"),
        "path": relative_path_or_none,
        "data": chunk,
        "last": flag,
    }
    target: str
    path: str
    data: bytes
    last: bool


class Run(Message):
    """Broker: start the program that was staged. The clock starts when the child is told."""

    kind = "run"
    __slots__ = {
        "args": many(text(MAX_ARGUMENT_BYTES), most=1024),
        "env": texts_by_name,
        "last_line_interactive": flag,
        "timeout_ms": integer(1),
        "collect_ms": integer(0),
    }
    args: list[str]
    env: dict[str, str]
    last_line_interactive: bool
    timeout_ms: int
    collect_ms: int
    """How long collection may take after the end; what is not collected by then is skipped."""


class Cancel(Message):
    """Broker: end the run now. The answer is its outcome, with reason `cancelled`."""

    kind = "cancel"
    __slots__: dict[str, Check] = {}


class Output(Message):
    """Sandbox: a piece of the program's output, as it comes. Cut silently at the limit."""

    kind = "output"
    __slots__ = {"stream": one_of(*STREAMS), "data": chunk}
    stream: str
    data: bytes


class Refused(Message):
    """Sandbox: an input does not fit into the workspace. Nothing has run; no other frame of the run follows."""

    kind = "refused"
    __slots__ = {"path": relative_path_or_none, "resource": one_of("disk", "inodes", "file_size")}
    path: str
    resource: str


class File(Message):
    """Sandbox: a piece of a file that the run made or changed. Pieces come in order, one file at a time."""

    kind = "file"
    __slots__ = {"path": relative_path, "data": chunk, "last": flag}
    path: str
    data: bytes
    last: bool


class Outcome(Message):
    """Sandbox: how the run ended. Always the last frame of a run, and the only one that ends it."""

    kind = "outcome"
    __slots__ = {
        "exit_code": optional(integer(0, 255)),
        "reason": one_of(*REASONS),
        "signal": optional(text(32)),
        "duration_ms": integer(0),
        "collect_ms": integer(0),
        "limits_hit": many(one_of(*RESOURCES)),
        "stdout_truncated": flag,
        "stderr_truncated": flag,
        "files_skipped": many(skipped, most=20),
        "files_skipped_count": integer(0),
    }
    exit_code: int | None
    """None if and only if the reason is `timeout` or `cancelled`."""
    reason: str
    signal: str | None
    duration_ms: int
    collect_ms: int
    limits_hit: list[str]
    stdout_truncated: bool
    stderr_truncated: bool
    files_skipped: list[list[str]]
    files_skipped_count: int


FROM_BROKER: frozenset[type[Message]] = frozenset({Ping, Stage, Run, Cancel})
FROM_SANDBOX: frozenset[type[Message]] = frozenset({Hello, Pong, Refused, Output, File, Outcome})


# --- frames ---------------------------------------------------------------------------------


def _plain(value: object) -> object:
    return binascii.b2a_base64(value, newline=False).decode("ascii") if type(value) is bytes else value


class Writer:
    """Turns messages into lines, counting them. One for each direction of a channel."""

    __slots__ = ("_seq",)

    def __init__(self) -> None:
        self._seq = 0

    def line(self, message: Message, run: str = "") -> bytes:
        body = {name: _plain(value) for name, value in message.fields().items()}
        frame = {"v": PROTOCOL, "kind": message.kind, "run": run, "seq": self._seq, "body": body}
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
            raise WireError(f"unexpected kind {_quote(kind)}")
        self._seq += 1
        return run, decode(self._kinds[kind], body)

    def _envelope(self, line: bytes) -> tuple[str, str, dict[str, object]]:
        frame = _parsed(line, self._loads)
        if type(frame) is not dict or frame.keys() != {"v", "kind", "run", "seq", "body"}:
            raise WireError(f"not a frame: {_quote(line)}")
        if frame["v"] != PROTOCOL or type(frame["v"]) is not int:
            raise WireError(f"protocol version {_quote(frame['v'])}, want {PROTOCOL}")
        if frame["seq"] != self._seq or type(frame["seq"]) is not int:
            raise WireError(f"frame number {_quote(frame['seq'])}, want {self._seq}")
        if not text(64)(frame["run"]) or type(frame["kind"]) is not str or type(frame["body"]) is not dict:
            raise WireError(f"not a frame: {_quote(line)}")
        return frame["run"], frame["kind"], frame["body"]


def _parsed(line: bytes, loads: Loads) -> object:
    # RecursionError: "[" * 100000 is a valid line and no valid frame (tests/property/test_wire.py).
    try:
        return loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {_quote(line)}") from error


def decode(cls: type[Message], body: dict[str, object]) -> Message:
    """Make a message from a frame's body: base64 undone, every field checked."""
    return cls(**{name: _raw(value) if cls.checks.get(name) is chunk else value for name, value in body.items()})


def _raw(value: object) -> bytes:
    if type(value) is not str or not value.isascii():
        raise WireError(f"not base64: {_quote(value)}")
    try:
        raw = binascii.a2b_base64(value)
    except binascii.Error as error:
        raise WireError(f"not base64: {_quote(value)}") from error
    # SECURITY: base64 has many spellings for the same bytes; only ours is taken, so that nothing
    # can ride along in what a lenient decoder skips.
    if binascii.b2a_base64(raw, newline=False) != value.encode("ascii"):
        raise WireError(f"not canonical base64: {_quote(value)}")
    return raw
