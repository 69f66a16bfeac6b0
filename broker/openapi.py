"""The table of operations as an OpenAPI 3.1 document. Pure."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import msgspec

from broker import bodies
from broker.errors import INTERNAL, TABLE, KeyInUse, SchemaError, Unauthenticated, kind_of
from broker.operations import (
    ASKED_REQUEST_ID,
    CHALLENGE,
    CONNECTION,
    EVERYWHERE,
    EXECUTION_ID,
    OPEN_PATHS,
    OPERATIONS,
    REQUEST_ID,
    RETRY_AFTER,
    SERVER_TIMING,
    Header,
    Operation,
)
from broker.version import SERVICE_VERSION

Object = dict[str, Any]

ABOUT = (
    "Runs Python programs in sandboxes that were started before the request came. A path that is not here is answered"
    " 404 `not_found`, another method of a path 405 `method_not_allowed` with `Allow`; HEAD works wherever GET does."
)
TAGS = {
    "run": "Run programs.",
    "sessions": "Sandboxes that are kept for a while.",
    "files": "Files that go in and come out.",
    "operate": "For operators and machines.",
}
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same, by another header.",
    },
}
"""Either will do."""
SHARED = {"X-Request-Id": REQUEST_ID, "Server-Timing": SERVER_TIMING}
"""Headers of every answer to a request."""
_TYPES = [
    bodies.ErrorBody,
    *(kind for each in OPERATIONS for kind in (each.takes, each.answer) if kind is not None),
    *(kind for each in OPERATIONS for kind in (*each.other_answers.values(), *each.events.values())),
]


@cache
def document(max_timeout_ms: int = 60_000, open_paths: frozenset[str] | None = OPEN_PATHS) -> Object:
    """The longest run, and whether there are keys, is the operator's to say; all else is the same everywhere.

    `open_paths` need no key; None where nobody does.
    """
    _, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    for body in ("ExecuteBody", "BashBody"):
        components[body]["properties"]["timeout_ms"]["maximum"] = max_timeout_ms
    paths: dict[str, Object] = {}
    for each in OPERATIONS:
        # Beside the operation and not in it: what offers operations to a model as tools makes no argument of it.
        headers = {"X-Request-Id": ASKED_REQUEST_ID, **each.request_headers}
        shared = {"parameters": [_parameter(*header) for header in headers.items()]}
        needs_key = open_paths is not None and each.path not in open_paths
        operation = {**_operation(_with_common_errors(each, needs_key)), **_open(each, open_paths)}
        paths.setdefault(each.path, shared)[each.method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Code interpreter", "version": SERVICE_VERSION, "description": ABOUT},
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {name: _header(header) for name, header in SHARED.items()},
            **({} if open_paths is None else {"securitySchemes": KEYS}),
        },
        **({} if open_paths is None else {"security": [{name: []} for name in KEYS]}),
    }


def _open(each: Operation, open_paths: frozenset[str] | None) -> Object:
    return {"security": []} if open_paths is not None and each.path in open_paths else {}


def _with_common_errors(each: Operation, needs_key: bool) -> Operation:
    needed = (Unauthenticated,) if needs_key else ()
    return msgspec.structs.replace(each, errors=(*each.errors, *needed, *EVERYWHERE))


def _operation(each: Operation) -> Object:
    found: Object = {
        "operationId": each.name,
        "tags": [each.tag],
        "summary": each.summary,
        "description": each.description,
    }
    if parameters := _path_parameters(each):
        found["parameters"] = parameters
    if each.takes is not None:
        found["requestBody"] = {"required": True, "content": _program(each.takes, each.example)}
    elif each.uploads is not None:
        found["requestBody"] = {"required": True, "content": _upload(each.uploads)}
    return {**found, "responses": _answers(each)}


def _path_parameters(each: Operation) -> list[Object]:
    names = [part[1:-1] for part in each.path.split("/") if part.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The `{name}` that an answer gave.",
            "schema": {"type": "string"},
            "example": "0b0c4a0e-6d3b-4f39-9a9f-0d9f3d7a8f11",
        }
        for name in names
    ]


def _parameter(name: str, header: Header) -> Object:
    return {"name": name, "in": "header", "required": header.required, **_described(header)}


def _described(header: Header) -> Object:
    narrowed = {"pattern": header.pattern, "format": header.format}
    schema = {"type": "string", **{key: value for key, value in narrowed.items() if value}}
    return {"description": header.description, "schema": schema, "example": header.example}


def _program(kind: type, example: object) -> Object:
    return {"application/json": {"schema": _reference(kind), "example": example}}


def _upload(name: str) -> Object:
    part = {"type": "string", "format": "binary"}
    whole = {"type": "object", "required": [name], "properties": {name: part}}
    return {"multipart/form-data": {"schema": whole}}


# --- answers --------------------------------------------------------------------------------


def _answers(each: Operation) -> Object:
    found = {str(each.status): _good(each)}
    for status, kind in each.other_answers.items():
        content = {"application/json": {"schema": _reference(kind)}}
        found[str(status)] = {"description": each.description, "headers": _headers({}), "content": content}
    for status in sorted({TABLE[error].status for error in each.errors} | set(CONNECTION)):
        found[str(status)] = _failed(status, each)
    return dict(sorted(found.items()))


def _good(each: Operation) -> Object:
    found: Object = {"description": each.summary, "headers": _headers(dict(each.answer_headers))}
    if each.status != 204:
        found["content"] = {each.media: _stream(each) if each.events else _content(each)}
    return found


def _content(each: Operation) -> Object:
    if each.answer is not None:
        return {"schema": _reference(each.answer)}
    return {"schema": {"type": "string", **({} if each.media == "text/plain" else {"format": "binary"})}}


def _stream(each: Operation) -> Object:
    """The schema is that of one event, as later versions of OpenAPI have it and testers already read it."""
    return {
        "schema": {"oneOf": [_event(name, kind) for name, kind in each.events.items()]},
        "example": ': ping\n\nevent: output\ndata: {"stream":"stdout","data":"42\\n"}\n\n'
        'event: result\ndata: {"exit_code":0,"timed_out":false,"duration_ms":2,"files":[]}\n\n',
    }


def _event(name: str, kind: type) -> Object:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _reference(kind)}
    return {
        "type": "object",
        "description": inspect.getdoc(kind),
        "required": ["event", "data"],
        "properties": {"event": {"const": name}, "data": data},
    }


def _failed(status: int, each: Operation) -> Object:
    reasons = _reasons(status, each)
    narrowed = {"properties": {"code": {"enum": [example["code"] for _, example in reasons]}}}
    content = {
        "schema": {"allOf": [_reference(bodies.ErrorBody), narrowed]},
        "examples": {example["code"]: {"value": example} for _, example in reasons},
    }
    return {
        "description": "\n".join(f"* `{example['code']}`: {text}" for text, example in reasons),
        "headers": _headers(_beside(status, each), from_connection=status in CONNECTION),
        "content": {"application/json": content},
    }


def _beside(status: int, each: Operation) -> dict[str, Header]:
    found = {"WWW-Authenticate": CHALLENGE} if status == TABLE[Unauthenticated].status else _again(status, each)
    if "X-Execution-Id" not in each.answer_headers:
        return found
    # What goes wrong before it is known what is asked has no id.
    return {**found, "X-Execution-Id": msgspec.structs.replace(EXECUTION_ID, required=False)}


def _again(status: int, each: Operation) -> dict[str, Header]:
    if status in (429, 503):
        return {"Retry-After": RETRY_AFTER}
    if status == TABLE[KeyInUse].status and KeyInUse in each.errors:  # of several with this status the only one
        return {"Retry-After": msgspec.structs.replace(RETRY_AFTER, required=False)}
    return {}


def _reasons(status: int, each: Operation) -> list[tuple[str, Object]]:
    """Why it may be answered with this status: a sentence, and an answer."""
    found = [(_said(error), _example(error)) for error in each.errors if TABLE[error].status == status]
    if status in CONNECTION:
        text = CONNECTION[status]
        found.append((text, {"detail": text, "code": "bad_http", "retryable": False}))
    return found


def _said(error: type[Exception]) -> str:
    return INTERNAL if error is Exception else (inspect.getdoc(error) or "").splitlines()[0]


def _example(error: type[Exception]) -> Object:
    kind = kind_of(error)
    detail: object = _said(error)
    if issubclass(error, SchemaError):
        detail = [SchemaError("missing", ("body", "code"), "Field required").entry]
    return {"detail": detail, "code": kind.code, "retryable": kind.retryable}


def _headers(more: dict[str, Header], *, from_connection: bool = False) -> Object:
    # A connection that is refused ends before there is a request that could have an id.
    every = {name: _header(header, from_connection) for name, header in SHARED.items()}
    if not from_connection:
        every = {name: {"$ref": f"#/components/headers/{name}"} for name in SHARED}
    return {**every, **{name: _header(header) for name, header in more.items()}}


def _header(header: Header, is_optional: bool = False) -> Object:
    return {"required": header.required and not is_optional, **_described(header)}


def _reference(kind: type) -> Object:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
