"""What goes into a run and what comes out of it. Values only."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal, Protocol

import msgspec

from sandbox_runtime import wire

Stream = Literal["stdout", "stderr"]


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program, as the caller sent it."""

    code: str | bytes
    """Bytes are the file as it is: with a coding cookie, or an error for the program's Python to name."""
    stdin: str | bytes | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    last_line_interactive: bool = True
    timeout_ms: int = 2000


class StagedFile(msgspec.Struct, frozen=True, kw_only=True):
    """An input for the workspace. `read` opens it anew and yields its bytes in pieces of any size."""

    path: str
    read: Callable[[], AsyncIterator[bytes]]


class Reason(enum.StrEnum):
    """Why a run ended."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    OOM = "oom"
    SIGNAL = "signal"
    OUTPUT_LIMIT = "output_limit"
    PROCESS_LIMIT = "process_limit"


class SkippedFile(msgspec.Struct, frozen=True):
    """A file that the run made and that is not returned."""

    path: str
    reason: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. A program that failed is an outcome like any other."""

    exit_code: int | None
    """The process status; 128 + n for signal n; None if and only if it timed out."""
    reason: Reason
    signal: str | None
    """The signal's name, as in `SIGSEGV`."""
    duration_ms: int
    limits_hit: tuple[str, ...]
    stdout_truncated: bool
    stderr_truncated: bool
    files_skipped: tuple[SkippedFile, ...]
    """The first 20."""
    files_skipped_count: int
    stage_ms: float
    run_ms: float
    collect_ms: float

    @property
    def timed_out(self) -> bool:
        return self.reason is Reason.TIMEOUT


class Sink(Protocol):
    """Takes what a run produces, as it comes. Slow takers slow the sandbox, not the service."""

    async def output(self, stream: Stream, data: bytes) -> None:
        """A piece of output, cut at the limit, not necessarily at a character's border."""

    async def file(self, path: str, data: bytes, last: bool) -> None:
        """A piece of a file: pieces in order, one file at a time; `last` ends it."""


def outcome_of(ended: wire.Outcome, *, stage_seconds: float = 0.0, run_seconds: float = 0.0) -> Outcome:
    """What a sandbox says of a run, with the seconds that we have counted."""
    return Outcome(
        exit_code=ended.exit_code,
        reason=Reason(ended.reason),
        signal=ended.signal,
        duration_ms=ended.duration_ms,
        limits_hit=tuple(ended.limits_hit),
        stdout_truncated=ended.stdout_truncated,
        stderr_truncated=ended.stderr_truncated,
        files_skipped=tuple(SkippedFile(path, reason) for path, reason in ended.files_skipped),
        files_skipped_count=ended.files_skipped_count,
        stage_ms=stage_seconds * 1000,
        run_ms=max(0.0, run_seconds * 1000 - ended.collect_ms),
        collect_ms=float(ended.collect_ms),
    )
