"""What goes in and what comes out, and how it is read from JSON. Pure.

Fields that are not known here are left out, those that an older service does not send are None or empty: a client
outlives versions of its service. Readers raise `AnswerUnreadable`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from code_interpreter_client.errors import AnswerUnreadable

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class StoredFile:
    file_id: str
    filename: str
    size_bytes: int
    upload_time: float | None = None
    """Seconds since 1970; in listings only."""


@dataclass(frozen=True)
class ReturnedFile:
    path: str
    file_id: str
    size_bytes: int | None = None
    mime_type: str | None = None


@dataclass(frozen=True)
class SkippedFile:
    """One that the program made and that was not kept."""

    path: str
    reason: str


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
    truncated: tuple[str, ...] = ()
    """`stdout`, `stderr` or both, where there was more than the service keeps."""
    files_skipped: tuple[SkippedFile, ...] = ()


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
    upload_time = None if body.get("upload_time") is None else _seconds(body, "upload_time")
    return StoredFile(
        _get(body, "file_id", str), _get(body, "filename", str), _get(body, "size_bytes", int), upload_time
    )


def stored_files(body: Json) -> list[StoredFile]:
    return [stored_file(each) for each in _get(body, "files", list)]


def session(body: Json) -> Session:
    return Session(_get(body, "session_id", str), _seconds(body, "expires_at"))


def bash_result(body: Json) -> BashResult:
    return BashResult(
        stdout=_get(body, "stdout", str),
        stderr=_get(body, "stderr", str),
        exit_code=_optional(body, "exit_code", int),
        timed_out=_get(body, "timed_out", bool),
        duration_ms=_get(body, "duration_ms", int),
    )


def output(body: Json) -> Output:
    stream = _get(body, "stream", str)
    if stream not in ("stdout", "stderr"):
        raise ValueError("stream")
    return Output(cast(Literal["stdout", "stderr"], stream), _get(body, "data", str))


def result(body: Json) -> Result:
    return Result(
        exit_code=_optional(body, "exit_code", int),
        timed_out=_get(body, "timed_out", bool),
        duration_ms=_get(body, "duration_ms", int),
        files=tuple(_returned(each) for each in _get(body, "files", list)),
        stdout=_optional(body, "stdout", str) or "",
        stderr=_optional(body, "stderr", str) or "",
        execution_id=_optional(body, "execution_id", str),
        reason=_optional(_optional(body, "termination", dict) or {}, "reason", str),
        limits_hit=tuple(str(each) for each in _optional(body, "limits_hit", list) or ()),
        truncated=tuple(name for name, cut in (_optional(body, "truncated", dict) or {}).items() if cut is True),
        files_skipped=tuple(_skipped(each) for each in _optional(body, "files_skipped", list) or ()),
    )


def _returned(body: Json) -> ReturnedFile:
    size_bytes, mime_type = _optional(body, "size_bytes", int), _optional(body, "mime_type", str)
    return ReturnedFile(_get(body, "path", str), _get(body, "file_id", str), size_bytes, mime_type)


def _skipped(body: Json) -> SkippedFile:
    return SkippedFile(_get(body, "path", str), _get(body, "reason", str))


def _get(body: Json, name: str, kind: type[T]) -> T:
    # SECURITY: what is not of its type would be found out in the caller's code (tests/unit/test_client_calls.py).
    found = body[name]
    if not isinstance(found, kind):
        raise TypeError(name)
    return found


def _seconds(body: Json, name: str) -> float:
    return float(body[name] if isinstance(body[name], float) else _get(body, name, int))


def _optional(body: Json, name: str, kind: type[T]) -> T | None:
    return None if body.get(name) is None else _get(body, name, kind)


def reader(read: Callable[[Json], T]) -> Callable[[bytes | str], T]:
    """The same of JSON text."""

    def of_text(text: bytes | str) -> T:
        with _understood():
            return read(json.loads(text))

    return of_text


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise AnswerUnreadable("The answer is not one of a code interpreter; is the address right?") from error
