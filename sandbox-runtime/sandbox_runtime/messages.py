"""The messages of the protocol: what each side may say, and the check that each field is held by. Pure.

Rules, versions and frames are in `wire.py`, which is what others import.
"""

from __future__ import annotations

from sandbox_runtime.checks import (
    MAX_ARGUMENT_BYTES,
    MAX_PATH_BYTES,
    address,
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
else:

    def dataclass_transform(**_):
        return lambda cls: cls


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


class UnknownVersion(WireError):
    """The other end is of another age."""


def quoted(value: object) -> str:
    return repr(value)[:60]


def skipped(value: object) -> bool:
    """One file that was left out: [path, reason]."""
    return (
        type(value) is list and len(value) == 2 and text(MAX_PATH_BYTES)(value[0]) and one_of(*SKIP_REASONS)(value[1])
    )


def target(value: object) -> bool:
    """Where to knock: ["tcp" or "udp", address, port]."""
    return (
        type(value) is list
        and len(value) == 3
        and one_of("tcp", "udp")(value[0])
        and address(value[1])
        and integer(1, 65535)(value[2])
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
            raise WireError(f"{self.kind} has fields {quoted(sorted(fields))}, needs {sorted(self.checks)}")
        for name, value in fields.items():
            if not self.checks[name](value):
                raise WireError(f"{self.kind}.{name} cannot be {quoted(value)}")
            object.__setattr__(self, name, value)

    def fields(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.checks}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Message) and self.fields() == other.fields()

    __hash__ = None  # type: ignore[assignment]  # equal by value and mutable: no place in a set

    def __repr__(self) -> str:
        return "{}({})".format(
            type(self).__name__, ", ".join(f"{name}={quoted(v)}" for name, v in self.fields().items())
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

    `code` is the program, `stdin` its standard input (absent: empty), `file` an input at `path` ("" for the others);
    `command` is what a shell gets, in a session.
    """

    kind = "stage"
    __slots__ = {
        "target": one_of("code", "stdin", "file", "command"),
        "path": relative_path_or_none,
        "data": chunk,
        "last": flag,
    }
    target: str
    path: str
    data: bytes
    last: bool


class Run(Message):
    """Broker: start the program that was staged. The clock starts when the child is told.

    In a session it is a call like others: it waits for its turn, and what it leaves stays.
    """

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
    """How long collection may take after the end; what is not collected by then is skipped. In a session the wait for
    its turn is a part of it: one that has not begun within half of it never begins."""


class Cancel(Message):
    """Broker: end the run now. The answer is its outcome, with reason `cancelled`."""

    kind = "cancel"
    __slots__: dict[str, Check] = {}


class Attach(Message):
    """Broker: what has been kept of the run that the frame names, from the frame numbered `heard` (from 0) on."""

    kind = "attach"
    __slots__ = {"heard": integer(0)}
    heard: int


class Ack(Message):
    """Broker: the outcome has arrived; nothing of the run need be kept any longer."""

    kind = "ack"
    __slots__: dict[str, Check] = {}


class Clean(Message):
    """Broker: wipe all that the last run left, prove it, and arm another child. Answered by `cleaned`."""

    kind = "clean"
    __slots__: dict[str, Check] = {}


class Reach(Message):
    """Broker: try to reach these addresses from inside: protocol, host, port. Answered by `reached`."""

    kind = "reach"
    __slots__ = {"targets": many(target, most=16)}
    targets: list[list[object]]


class Session(Message):
    """Broker: be a session from here on, until its time is over: calls of many channels, and what they leave stays.

    Answered by `opened`. There is no way back: a session's sandbox is never anybody else's.
    """

    kind = "session"
    __slots__ = {"ttl_ms": integer(1), "proof": text(64), "loopback": flag}
    ttl_ms: int
    proof: str
    """SHA-256, in hexadecimal, of the token that another channel has to show first; "": no other may come."""
    loopback: bool
    """Calls may use IP sockets. SECURITY: only where it is known that they lead nowhere."""


class Prove(Message):
    """Broker, first of all on another channel to a session: the token. Answered by `opened`, or by the stream's end."""

    kind = "prove"
    __slots__ = {"token": text(128)}
    token: str


class Shell(Message):
    """Broker, in a session, in place of `run`: give what was staged as `command` to `bash -c`."""

    kind = "shell"
    __slots__ = {"timeout_ms": integer(1), "wait_ms": integer(0)}
    timeout_ms: int
    wait_ms: int
    """How long it may wait for its turn. Then it never begins: `cancelled`, with a duration of 0."""


class Output(Message):
    """Sandbox: a piece of the program's output, as it comes. Cut silently at the limit."""

    kind = "output"
    __slots__ = {"stream": one_of(*STREAMS), "data": chunk}
    stream: str
    data: bytes


class Refused(Message):
    """Sandbox: an input does not fit into the workspace. Nothing has run; no other frame of the run follows.

    In a session also: something is in its place, or on the way to it, that cannot make way (`place`); or the kernel
    lacks what it takes to put files beside processes that live (`kernel`).
    """

    kind = "refused"
    __slots__ = {"path": relative_path_or_none, "resource": one_of("disk", "inodes", "file_size", "place", "kernel")}
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


class Kept(Message):
    """Sandbox, behind its hello on a channel that came after a lost one: the run that the frame names has been kept."""

    kind = "kept"
    __slots__: dict[str, Check] = {}


class Busy(Message):
    """Sandbox, in place of a hello: a program runs, and nobody is let in beside it. Try again in a moment."""

    kind = "busy"
    __slots__: dict[str, Check] = {}


class Cleaned(Message):
    """Sandbox: what a cleaning found. With no `findings` it is as it was before its first run, and armed again."""

    kind = "cleaned"
    __slots__ = {"findings": many(text(256)), "evidence": numbers_by_name, "runs": integer(0)}
    findings: list[str]
    """What is not as it was, in words; with any of them the sandbox must not be used again."""
    evidence: dict[str, int]
    """How much of each kind was looked at, and how much was wiped."""
    runs: int


class Reached(Message):
    """Sandbox: those of the targets that answered, as `protocol host:port`. None is the proof that was asked for."""

    kind = "reached"
    __slots__ = {"targets": many(text(128), most=16)}
    targets: list[str]


class Opened(Message):
    """Sandbox: it is a session, for so long."""

    kind = "opened"
    __slots__ = {"left_ms": integer(0)}
    left_ms: int


FROM_BROKER: frozenset[type[Message]] = frozenset(
    {Ping, Stage, Run, Cancel, Attach, Ack, Clean, Reach, Session, Prove, Shell}
)
FROM_SANDBOX: frozenset[type[Message]] = frozenset(
    {Hello, Pong, Refused, Output, File, Outcome, Kept, Busy, Cleaned, Reached, Opened}
)
