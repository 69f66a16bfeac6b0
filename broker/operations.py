"""The API as one table: each operation with what it takes, every answer it can give, and why.

A new operation is one more entry here, with the types of its bodies; a new error is one more class in an `errors`
tuple. `openapi.py` makes the document of it, and tests compare it with the routes and with the table of errors.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from broker import bodies, errors, schemas
from pool import (
    ChannelLost,
    InputsRefused,
    PoolClosed,
    PoolError,
    PoolSaturated,
    PoolTimeout,
    RemoteProtocolError,
    SandboxError,
    SandboxLost,
    SandboxStartFailed,
    SessionGone,
)

Errors = tuple[type[Exception], ...]

EVERYWHERE: Errors = (errors.ForeignCaller, Exception)
"""What any operation may answer."""
OPEN_PATHS = frozenset({"/health", "/ready"})
"""Need no key, whatever the settings: asked by machines that have none, and they say nothing of a tenant's."""
TAKES_BODY: Errors = (errors.SchemaError, errors.TooLarge, errors.WrongContentType, errors.BodyStalled)
LOST: Errors = (SandboxLost, RemoteProtocolError)
IN_SANDBOX: Errors = (InputsRefused, *LOST)
"""With a sandbox in hand: in a stream its `error` events."""
STORED: Errors = (errors.FileMissing, errors.StorageFailed)
LIMITED: Errors = (errors.RateLimited,)
WITH_INPUTS: Errors = (
    *LIMITED,
    *TAKES_BODY,
    errors.Unprocessable,
    errors.BodiesFull,
    *STORED,
    PoolTimeout,
    PoolClosed,
)
KEYED: Errors = (errors.KeyReused, errors.KeyInUse, errors.OutcomeUnknown, errors.StorageFull)
RUNS: Errors = (
    *WITH_INPUTS,
    PoolSaturated,
    *KEYED,
    errors.SessionMissing,
    errors.ExecutionExists,
    errors.ExecutionCancelled,
)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    description: str
    example: str
    required: bool = True
    pattern: str | None = None
    format: str | None = None


REQUEST_ID = Header(
    description="That of the request, where it is 1 to 128 visible ASCII characters, or one that was made.",
    example="6f1c8f5d2f0e4b0c9a57d6d2f3a1b7e4",
)
SERVER_TIMING = Header(
    description="Milliseconds of each phase, and `total` until the head of the answer.",
    example="queue;dur=0.000, lease;dur=0.110, total;dur=4.200",
)
RETRY_AFTER = Header(description="Seconds after which the same request may succeed.", example="1", pattern="^[0-9]+$")
ASKED_REQUEST_ID = Header(
    description="A name for this request, which its answer and the log will show.", example="turn-17", required=False
)
EXECUTION_ID = Header(
    description="The run's id, by which it can be cancelled; of a stored outcome, its run's.",
    example="3f0d9c1e-6a53-4d0e-9b6a-2f6b0c1d7e42",
)
CHALLENGE = Header(
    description="A key is wanted: in `Authorization`, or in `X-API-Key` (RFC 6750).",
    example='Bearer realm="code-interpreter"',
)
RUN_HEADERS = {
    "Idempotency-Key": Header(
        description="The same key and body run once, and get the same outcome, on either path, until its time is up.",
        example="turn-17-call-2",
        required=False,
        pattern="^[ -~]{1,255}$",
    ),
    "X-Execution-Id": Header(
        description="A UUID for the run, to cancel it by; made where it is absent.",
        example="3f0d9c1e-6a53-4d0e-9b6a-2f6b0c1d7e42",
        required=False,
        format="uuid",
    ),
}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. The name is the `operationId`; `status` is that of the good answer."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str
    takes: type | None = None
    """The type of a JSON body."""
    uploads: str | None = None
    """The name of the one part of a multipart body."""
    status: int = 200
    answer: type | None = None
    media: str = "application/json"
    answer_headers: Mapping[str, Header] = {}
    request_headers: Mapping[str, Header] = {}
    other_answers: Mapping[int, type] = {}
    """Statuses with a body that is no error's."""
    events: Mapping[str, type] = {}
    """Server-sent events: the type of the JSON in their `data`."""
    example: object = None
    """Of the body that it takes."""
    errors: Errors = ()


_PROGRAM = {"code": "import math\nprint(math.factorial(20))\n", "timeout_ms": 5000}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/execute",
        name="execute",
        tag="run",
        summary="Run a Python program and return its output.",
        description=(
            "Runs `code` in a new sandbox without network and answers when it has ended, with what it printed and the"
            " files that it made. Nothing is kept between two calls: pass files by their `file_id`, or name a session"
            " with `session_id`, in which everything is. A program that fails, or whose time is up, is answered with"
            " 200: look at `exit_code`, `timed_out` and `stderr`."
        ),
        takes=bodies.ExecuteBody,
        answer=schemas.BatchResult,
        request_headers=RUN_HEADERS,
        answer_headers={"X-Execution-Id": EXECUTION_ID},
        example=_PROGRAM,
        errors=(*RUNS, *IN_SANDBOX),
    ),
    Operation(
        method="post",
        path="/v1/execute/stream",
        name="executeStream",
        tag="run",
        summary="Run a Python program and send its output while it runs.",
        description=(
            "As `execute`, but as server-sent events: any number of `output`, then one `result` or one `error` as"
            " the last. Each has one `data` line of ASCII JSON; comment lines (`: ping`) keep the connection open. What"
            " can be refused is refused with a status, before the stream begins."
        ),
        takes=bodies.ExecuteBody,
        media="text/event-stream",
        events={"output": bodies.OutputEvent, "result": schemas.Result, "error": bodies.ErrorEvent},
        request_headers=RUN_HEADERS,
        answer_headers={
            "X-Execution-Id": EXECUTION_ID,
            "Cache-Control": Header(description="A stream is not to be stored.", example="no-cache"),
            "X-Accel-Buffering": Header(description="A proxy is not to hold it back.", example="no"),
        },
        example=_PROGRAM,
        errors=RUNS,
    ),
    Operation(
        method="delete",
        path="/v1/executions/{execution_id}",
        name="cancelExecution",
        tag="run",
        summary="Cancel a program that runs.",
        description=(
            "By its `X-Execution-Id`, on the replica that runs it. Its caller is told `execution_cancelled`, and its"
            " sandbox is destroyed; a session goes on."
        ),
        status=204,
        errors=(errors.ExecutionMissing,),
    ),
    Operation(
        method="post",
        path="/v1/sessions",
        name="openSession",
        tag="sessions",
        summary="Open a session: a sandbox that keeps its files and processes.",
        description=(
            "For `ttl_seconds` from now, whatever happens in it. `files` are put into its workspace, `/workspace`. Run"
            " shell commands in it with `bash`, and delete it when it is not needed any more."
        ),
        takes=bodies.SessionBody,
        status=201,
        answer=schemas.OpenSession,
        example={"ttl_seconds": 3600},
        errors=(*WITH_INPUTS, *IN_SANDBOX, errors.SessionsFull, errors.NoSessions),
    ),
    Operation(
        method="post",
        path="/v1/sessions/{session_id}/bash",
        name="bash",
        tag="sessions",
        summary="Run a shell command in a session.",
        description=(
            "`bash -c cmd`, in `/workspace`. Files stay for the next command, and processes in the background go on;"
            " shell variables and the folder do not stay. Commands run one after the other. One whose time is up is"
            " ended with all that it started, and the session stays."
        ),
        takes=bodies.BashBody,
        answer=schemas.BashResult,
        example={"cmd": "ls -l && python3 -m pytest -q"},
        errors=(
            *LIMITED,
            *TAKES_BODY,
            errors.Unprocessable,
            errors.BodiesFull,
            errors.SessionMissing,
            PoolSaturated,
            PoolTimeout,
            PoolClosed,
            *LOST,
        ),
    ),
    Operation(
        method="delete",
        path="/v1/sessions/{session_id}",
        name="closeSession",
        tag="sessions",
        summary="Close a session.",
        description="All that runs in it is ended, and its files are gone.",
        status=204,
        errors=(errors.SessionMissing, PoolTimeout),
    ),
    Operation(
        method="post",
        path="/v1/files",
        name="uploadFile",
        tag="files",
        summary="Store a file that programs can then read.",
        description="One part named `file`, with a file name. The answer's `file_id` goes into `files` of a program.",
        uploads="file",
        status=201,
        answer=schemas.StoredFile,
        errors=(*TAKES_BODY, errors.BadUpload, errors.StorageFull, errors.StorageFailed),
    ),
    Operation(
        method="get",
        path="/v1/files",
        name="listFiles",
        tag="files",
        summary="List all stored files.",
        description="Uploads, and what programs made, until their time is up.",
        answer=bodies.FileList,
        errors=(errors.StorageFailed,),
    ),
    Operation(
        method="get",
        path="/v1/files/{file_id}",
        name="downloadFile",
        tag="files",
        summary="Return the content of a stored file.",
        description="The bytes as they were stored; `Content-Disposition` has the name.",
        media="application/octet-stream",
        answer_headers={
            "Content-Disposition": Header(
                description="Always an attachment, with its name (RFC 6266).", example='attachment; filename="a.csv"'
            ),
            "Content-Length": Header(description="Bytes of the file.", example="1024"),
            "X-Content-Type-Options": Header(description="No browser is to guess a type.", example="nosniff"),
        },
        errors=STORED,
    ),
    Operation(
        method="delete",
        path="/v1/files/{file_id}",
        name="deleteFile",
        tag="files",
        summary="Delete a stored file.",
        description="It is gone at once. Files that nobody deletes go when their time is up.",
        status=204,
        errors=STORED,
    ),
    Operation(
        method="get",
        path="/health",
        name="health",
        tag="operate",
        summary="Tell how the service and its pool of sandboxes are.",
        description="From memory, whatever the load; 200 as long as the process lives.",
        answer=bodies.Health,
    ),
    Operation(
        method="get",
        path="/ready",
        name="ready",
        tag="operate",
        summary="Tell whether requests may be sent here.",
        description="503 until the first sandbox is warm, and while the service shuts down.",
        answer=bodies.Readiness,
        other_answers={503: bodies.Readiness},
    ),
    Operation(
        method="get",
        path="/metrics",
        name="metrics",
        tag="operate",
        summary="Return the metrics for Prometheus.",
        description="In the text format, version 0.0.4.",
        media="text/plain",
    ),
)

SEEN_BY_NOBODY: Mapping[type[Exception], str] = {
    **dict.fromkeys((PoolError, SandboxError, errors.TenantLimited), "it is raised as one of its kinds"),
    errors.ClientGone: "its client has gone",
    errors.SharedFailure: "it has the answer of the run that failed with it",
    SessionGone: "it becomes `session_not_found`",
    ChannelLost: "another channel is had, or it becomes `sandbox_lost`",
    SandboxStartFailed: "the pool tries again, and whoever waits is told of that: `pool_timeout`",
}
"""Errors of the table that no operation documents, and why."""

CONNECTION = {
    400: "What came is no HTTP, or has two hosts.",
    408: "No whole request head came within 30 s.",
    431: "The request head is longer than 64 KiB.",
}
"""Refusals of a connection (`connection.py`), before it is known what is asked; code `bad_http`."""
