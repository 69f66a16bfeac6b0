"""The values that go over HTTP: what a request becomes, and what a result is made of. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from pool import Outcome, Program, Reason

MARKER = b"\n...[truncated]"
RESERVED_BYTES = 32
"""A cut batch answer ends this much below the cap, so that the marker fits: a habit of the compatible API."""


class InputFile(msgspec.Struct, frozen=True):
    """A stored file that the program finds at `path`; `given` is the path as the caller wrote it."""

    path: str
    file_id: str
    given: str


class ExecuteRequest(msgspec.Struct, frozen=True, kw_only=True):
    program: Program
    files: tuple[InputFile, ...] = ()
    session_id: str | None = None
    """Where it runs; None: in a sandbox of its own."""


class ReturnedFile(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    kind: Literal["file"] = "file"
    file_id: str
    size_bytes: int
    mime_type: str


class SkippedPath(msgspec.Struct, frozen=True):
    path: str
    reason: str


class Termination(msgspec.Struct, frozen=True):
    reason: Reason
    signal: str | None


class Truncated(msgspec.Struct, frozen=True):
    stdout: bool
    stderr: bool


class TimingsMs(msgspec.Struct, frozen=True, kw_only=True):
    queue: float
    lease: float
    stage: float
    run: float
    collect: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The `result` event; a batch answer has the output besides."""

    exit_code: int | None
    timed_out: bool
    duration_ms: int
    files: list[ReturnedFile]
    execution_id: str
    termination: Termination
    limits_hit: tuple[str, ...]
    files_skipped: list[SkippedPath]
    files_skipped_count: int
    truncated: Truncated
    isolation: str
    timings_ms: TimingsMs


class BatchResult(Result, frozen=True, kw_only=True):
    stdout: str
    stderr: str


class SessionRequest(msgspec.Struct, frozen=True, kw_only=True):
    ttl_seconds: int
    files: tuple[InputFile, ...]


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    expires_at: float


class BashRequest(msgspec.Struct, frozen=True, kw_only=True):
    cmd: str
    timeout_ms: int


class BashResult(msgspec.Struct, frozen=True, kw_only=True):
    stdout: str
    stderr: str
    exit_code: int | None
    timed_out: bool
    duration_ms: int
    termination: Termination
    limits_hit: tuple[str, ...]
    truncated: Truncated


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    file_id: str
    filename: str
    size_bytes: int


class ListedFile(StoredFile, frozen=True, kw_only=True):
    upload_time: float


def batch_text(data: bytes | bytearray, *, cap: int, truncated: bool) -> str:
    """One stream of a batch answer: cut ones end with the marker, within the cap."""
    kept = bytes(data[: cap - RESERVED_BYTES]) + MARKER if truncated else data
    return kept.decode("utf-8", "replace")


def timings(outcome: Outcome, *, queue_ms: float, lease_ms: float) -> TimingsMs:
    return TimingsMs(
        queue=round(queue_ms, 3),
        lease=round(lease_ms, 3),
        stage=round(outcome.stage_ms, 3),
        run=round(outcome.run_ms, 3),
        collect=round(outcome.collect_ms, 3),
    )
