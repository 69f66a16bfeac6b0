"""What goes in and what comes out, and how it is read from JSON. Pure.

Fields that are not known here are left out, those that an older service does not send are None: a client outlives
versions of its service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

Json = dict[str, Any]


@dataclass(frozen=True)
class StoredFile:
    file_id: str
    filename: str
    size_bytes: int


@dataclass(frozen=True)
class ReturnedFile:
    path: str
    file_id: str
    size_bytes: int | None = None
    mime_type: str | None = None


@dataclass(frozen=True)
class Output:
    """A piece of what a program prints, as it comes."""

    stream: Literal["stdout", "stderr"]
    data: str


@dataclass(frozen=True)
class Result:
    """How a run ended. Of a stream, `stdout` and `stderr` are empty: they came before."""

    exit_code: int | None
    """None if and only if it timed out."""
    timed_out: bool
    duration_ms: int
    files: tuple[ReturnedFile, ...]
    stdout: str = ""
    stderr: str = ""
    execution_id: str | None = None
    reason: str | None = None
    """`exited`, `timeout`, `oom`, `signal`, `output_limit` or `process_limit`."""
    limits_hit: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session:
    session_id: str
    expires_at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class BashResult:
    """How a command of a session ended."""

    stdout: str
    stderr: str
    exit_code: int | None
    """None if and only if it timed out."""
    timed_out: bool
    duration_ms: int


Event = Output | Result


def stored_file(body: Json) -> StoredFile:
    return StoredFile(body["file_id"], body["filename"], body["size_bytes"])


def stored_files(body: Json) -> list[StoredFile]:
    return [stored_file(each) for each in body["files"]]


def session(body: Json) -> Session:
    return Session(body["session_id"], body["expires_at"])


def bash_result(body: Json) -> BashResult:
    return BashResult(body["stdout"], body["stderr"], body["exit_code"], body["timed_out"], body["duration_ms"])


def output(body: Json) -> Output:
    return Output(body["stream"], body["data"])


def result(body: Json) -> Result:
    return Result(
        exit_code=body["exit_code"],
        timed_out=body["timed_out"],
        duration_ms=body["duration_ms"],
        files=tuple(_returned(each) for each in body["files"]),
        stdout=body.get("stdout", ""),
        stderr=body.get("stderr", ""),
        execution_id=body.get("execution_id"),
        reason=cast(Json, body.get("termination") or {}).get("reason"),
        limits_hit=tuple(body.get("limits_hit", ())),
    )


def _returned(body: Json) -> ReturnedFile:
    return ReturnedFile(body["path"], body["file_id"], body.get("size_bytes"), body.get("mime_type"))
