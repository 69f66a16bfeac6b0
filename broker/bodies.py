"""The bodies and events of the API as they are documented. Pure.

What comes in is checked by hand (`validation.py`), as FastAPI's entries need it; what goes out is built where it is
known. Tests hold that these types and those places agree (tests/unit/test_openapi.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from broker.json_values import MAX_FILES
from broker.schemas import ListedFile
from broker.session_validation import DEFAULT_BASH_MS, DEFAULT_TTL_SECONDS, MAX_TTL_SECONDS
from pool import Snapshot, Stream

RELATIVE = r"^(?!/)(?!(.*/)?\.\.(/|$))(?!(\.?/)*\.?$)(?!(\.?/)*__main__\.py(/|$))[^\x00]+$"
"""Below the workspace, not the program itself, and somewhere at all."""
WHOLE = "without a decimal point"
"""JSON Schema has no way to say it: to it `5.0` is an integer."""
WITHOUT_NUL = r"^[^\x00]*$"
TRUE_OR_FALSE = (
    "^([Tt]|[Yy]|1|[Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|[Oo][Nn]|[Ff]|[Nn]|0|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|[Oo][Ff][Ff])$"
)
Switch = bool | Annotated[int, Meta(ge=0, le=1)] | Annotated[str, Meta(pattern=TRUE_OR_FALSE)]
"""What the compatible API takes for true or false."""


class FileReference(msgspec.Struct):
    """A stored file, and where the program finds it."""

    path: Annotated[
        str,
        Meta(description="Relative path below `/workspace`, at most 255 bytes a name.", pattern=RELATIVE),
    ]
    file_id: Annotated[str, Meta(description="The `file_id` of an upload, or of a file that a former program made.")]


class ExecuteBody(msgspec.Struct):
    """A program and what it gets."""

    code: Annotated[
        str,
        Meta(
            description="Python source, run as `/workspace/__main__.py`. Print what you want to see; files that it"
            " writes to the working folder come back."
        ),
    ]
    stdin: Annotated[str | None, Meta(description="Standard input; it ends after this, always.")] = None
    timeout_ms: Annotated[int, Meta(ge=1, description=f"Milliseconds that it may run, {WHOLE}.")] = 2000
    last_line_interactive: Annotated[
        Switch, Meta(description="Print the value of a last bare expression, as the interactive interpreter does.")
    ] = True
    files: Annotated[
        list[FileReference],
        Meta(description="Inputs, each at a path of its own, none below another.", max_length=MAX_FILES),
    ] = []
    args: Annotated[
        list[Annotated[str, Meta(pattern=WITHOUT_NUL)]],
        Meta(description="`sys.argv[1:]`; with `env` at most 16 KiB.", max_length=MAX_FILES),
    ] = []
    env: Annotated[
        dict[Annotated[str, Meta(pattern=r"^[^=\x00]+$")], Annotated[str, Meta(pattern=WITHOUT_NUL)]],
        Meta(description="Environment variables beside the fixed ones."),
    ] = {}
    session_id: Annotated[
        str | None,
        Meta(
            description="Run it in this session: it finds what commands and programs have left there, and what it"
            " leaves stays."
        ),
    ] = None


class SessionBody(msgspec.Struct):
    """How long a session lasts, and what is in its workspace."""

    ttl_seconds: Annotated[
        int, Meta(ge=1, le=MAX_TTL_SECONDS, description=f"Seconds until it ends, whatever happens in it; {WHOLE}.")
    ] = DEFAULT_TTL_SECONDS
    files: Annotated[
        list[FileReference],
        Meta(description="Files of its workspace, each at a path of its own.", max_length=MAX_FILES),
    ] = []


class BashBody(msgspec.Struct):
    """A command for the shell of a session."""

    cmd: Annotated[str, Meta(description="For `bash -c`, in `/workspace`; at most 128 KiB.", pattern=WITHOUT_NUL)]
    timeout_ms: Annotated[int, Meta(ge=1, description=f"Milliseconds that it may run, {WHOLE}.")] = DEFAULT_BASH_MS


class FileList(msgspec.Struct):
    """Oldest first."""

    files: list[ListedFile]


class Health(msgspec.Struct):
    """The service as it sees itself."""

    status: Annotated[
        Literal["ok", "error"],
        Meta(description="`error` after a minute without a warm sandbox, and a reason for that."),
    ]
    message: Annotated[str | None, Meta(description="The reason, in a sentence.")]
    version: Annotated[str, Meta(description="The level of the compatible API that is served.")]
    service_version: str
    executor_backend: Literal["local", "kubernetes"]
    network_isolation: str
    isolation: Literal["full", "reduced", "none"]
    isolation_missing: list[str]
    pool: Snapshot


class Readiness(msgspec.Struct):
    """May requests be sent here?"""

    ready: bool
    detail: Annotated[str | None, Meta(description="Why not.")]
    hold: Annotated[str | None, Meta(description="Why no sandbox can be started at present.")]


class SchemaEntry(msgspec.Struct):
    """Where a body has the wrong form."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any = None


class ErrorBody(msgspec.Struct):
    """`detail` is a sentence, or a list with one entry that says where a body has the wrong form."""

    detail: str | list[SchemaEntry]
    code: Annotated[str, Meta(description="A word for the kind of error; clients may compare it.")]
    retryable: Annotated[bool, Meta(description="Nothing has run, and the same request may succeed later.")]


class OutputEvent(msgspec.Struct):
    """A piece of what the program wrote, in order."""

    stream: Stream
    data: str


class ErrorEvent(msgspec.Struct):
    """The run was lost after its answer had begun. The last event."""

    message: str
    code: str
    retryable: bool
