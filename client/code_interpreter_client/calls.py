"""From arguments to a request, and from an answer to a value or an error. Pure.

Both clients are made of it: a method of theirs is a `Call`, which knows how its answer is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypedDict, TypeVar
from urllib.parse import quote

from code_interpreter_client import values
from code_interpreter_client.errors import RunFailed, ServiceRefused
from code_interpreter_client.values import BashResult, Event, Json, Result, Session, StoredFile, reader

T_co = TypeVar("T_co", covariant=True)

# Beside the program's own time: the queue, staging and collection, as the service shares them out.
BESIDE_SECONDS = 15.0


@dataclass(frozen=True)
class Run:
    """A program and what it gets. The service's defaults hold for what is None."""

    code: str
    stdin: str | None = None
    timeout_ms: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Stored files: where the program finds each, and its id."""
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    last_line_interactive: bool | None = None
    idempotency_key: str | None = None
    execution_id: str | None = None
    session_id: str | None = None
    """Run it there, and not in a sandbox of its own."""

    @property
    def body(self) -> Json:
        given: Json = {
            "code": self.code,
            "stdin": self.stdin,
            "timeout_ms": self.timeout_ms,
            "files": [{"path": path, "file_id": file_id} for path, file_id in self.files.items()] or None,
            "args": list(self.args) or None,
            "env": dict(self.env) or None,
            "last_line_interactive": self.last_line_interactive,
            "session_id": self.session_id,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def headers(self) -> dict[str, str]:
        given = {"Idempotency-Key": self.idempotency_key, "X-Execution-Id": self.execution_id}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def timeout_seconds(self) -> float:
        """Within which an answer comes, or does not come at all."""
        return (self.timeout_ms or 2000) / 1000 + BESIDE_SECONDS


class Options(TypedDict, total=False):
    """Of a run, beside its code: as `Run` has them."""

    stdin: str
    timeout_ms: int
    files: Mapping[str, str]
    args: Sequence[str]
    env: Mapping[str, str]
    last_line_interactive: bool
    idempotency_key: str
    execution_id: str
    session_id: str


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """One request, without its address."""

    method: str
    path: str
    read: Callable[[bytes], T_co]
    """What the body of an answer means. Raises `AnswerUnreadable`."""
    json: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: tuple[str, bytes] | None = None
    """A file's name and bytes."""
    timeout_seconds: float = 30.0
    """For which it may be silent."""


def nothing(_: bytes) -> None:
    """For an answer whose status says it all."""


def whole(body: bytes) -> bytes:
    return body


def execute(run: Run, *, stream: bool = False) -> Call[Result]:
    path, read = "/v1/execute/stream" if stream else "/v1/execute", reader(values.result)
    return Call("POST", path, read, json=run.body, headers=run.headers, timeout_seconds=run.timeout_seconds)


def open_session(ttl_seconds: int | None, files: Mapping[str, str]) -> Call[Session]:
    """`files` as a run has them."""
    body: Json = {"files": [{"path": path, "file_id": file_id} for path, file_id in files.items()]}
    body |= {} if ttl_seconds is None else {"ttl_seconds": ttl_seconds}
    return Call("POST", "/v1/sessions", reader(values.session), json=body)


def bash(session_id: str, command: str, timeout_ms: int | None) -> Call[BashResult]:
    body: Json = {"cmd": command} | ({} if timeout_ms is None else {"timeout_ms": timeout_ms})
    seconds = (timeout_ms or 30_000) / 1000 + BESIDE_SECONDS
    path = f"{_session(session_id)}/bash"
    return Call("POST", path, reader(values.bash_result), json=body, timeout_seconds=seconds)


def close_session(session_id: str) -> Call[None]:
    return Call("DELETE", _session(session_id), nothing)


def _session(session_id: str) -> str:
    return f"/v1/sessions/{quote(session_id, safe='')}"


def list_files() -> Call[list[StoredFile]]:
    return Call("GET", "/v1/files", reader(values.stored_files))


def upload(data: bytes, filename: str) -> Call[StoredFile]:
    return Call("POST", "/v1/files", reader(values.stored_file), upload=(filename, data))


def download(file_id: str) -> Call[bytes]:
    return Call("GET", _file(file_id), whole)


def delete_file(file_id: str) -> Call[None]:
    return Call("DELETE", _file(file_id), nothing)


def _file(file_id: str) -> str:
    return f"/v1/files/{quote(file_id, safe='')}"


def cancel(execution_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/executions/{quote(execution_id, safe='')}", nothing)


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> ServiceRefused:
    """The error that an answer above 399 is; of a proxy's too, which is nobody's promise of anything."""
    found = _object(body)
    detail = found.get("detail", f"HTTP {status}")
    return ServiceRefused(
        detail if isinstance(detail, str) else json.dumps(detail),
        status=status,
        code=str(found.get("code", "http")),
        retryable=found.get("retryable") is True,
        retry_after_seconds=_seconds(headers.get("retry-after", "")),
    )


def _object(body: bytes) -> Json:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str) -> float | None:
    return float(text) if text.isdecimal() and text.isascii() else None


class EventReader:
    """Server-sent events, line by line. Comments and events of other kinds are passed over.

    Raises `AnswerUnreadable`, and `RunFailed` where the service says so.
    """

    def __init__(self) -> None:
        self._name = ""
        self._data = ""

    def line(self, text: str) -> Event | None:
        """The event that ends with this line, if one does."""
        name, _, value = text.partition(": ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data = value
        elif not text:
            return self._event()
        return None

    def _event(self) -> Event | None:
        name, data, self._name, self._data = self._name, self._data, "", ""
        if name == "output":
            return _output(data)
        if name == "result":
            return _result(data)
        if name == "error":
            raise _failure(data)
        return None


def _failed(body: Json) -> RunFailed:
    return RunFailed(
        str(body["message"]), code=str(body.get("code", "unknown")), retryable=body.get("retryable") is True
    )


_output, _result, _failure = reader(values.output), reader(values.result), reader(_failed)
