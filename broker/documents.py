"""`/openapi.json` and `/docs`: the contract for machines and for people, made once from the types."""

from __future__ import annotations

import html
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from broker.schemas import BatchResult, ListedFile, StoredFile
from broker.service import SERVICE_VERSION


class FileReference(msgspec.Struct):
    """A stored file, and where the program finds it."""

    path: Annotated[str, Meta(description="Relative path below the workspace.")]
    file_id: Annotated[str, Meta(description="From `POST /v1/files` or a former result.")]


class ExecuteBody(msgspec.Struct):
    """A program and what it gets."""

    code: Annotated[str, Meta(description="Python source, run as `/workspace/__main__.py`.")]
    stdin: Annotated[str | None, Meta(description="Standard input; it ends after this, always.")] = None
    timeout_ms: Annotated[int, Meta(ge=1, description="Milliseconds it may run.")] = 2000
    last_line_interactive: Annotated[bool, Meta(description="Echo a last bare expression as the REPL does.")] = True
    files: Annotated[list[FileReference], Meta(description="Inputs, each at a path of its own.")] = []
    args: Annotated[list[str], Meta(description="`sys.argv[1:]`.")] = []
    env: Annotated[dict[str, str], Meta(description="Environment variables besides the fixed ones.")] = {}


class FileList(msgspec.Struct):
    files: list[ListedFile]


class ErrorBody(msgspec.Struct):
    """`detail` is a sentence, or a list with one entry that says where a body has the wrong form."""

    detail: str | list[dict[str, Any]]
    code: str
    retryable: Annotated[bool, Meta(description="Nothing has run, and the same request may succeed later.")]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    name: str
    summary: str
    status: int = 200
    answer: type | None = None
    media: str = "application/json"
    errors: tuple[int, ...] = ()


_RUN_ERRORS = (404, 408, 413, 415, 422, 429, 502, 503)
OPERATIONS = (
    Operation(
        method="post",
        path="/v1/execute",
        name="execute",
        summary="Run a program; answer when it has ended.",
        answer=BatchResult,
        errors=_RUN_ERRORS,
    ),
    Operation(
        method="post",
        path="/v1/execute/stream",
        name="executeStream",
        summary="Run a program; send `output` events as it goes, then one `result` or `error` event.",
        media="text/event-stream",
        errors=_RUN_ERRORS,
    ),
    Operation(
        method="post",
        path="/v1/files",
        name="uploadFile",
        summary="Store a file: multipart, one part named `file`.",
        status=201,
        answer=StoredFile,
        errors=(408, 413, 415, 422, 503, 507),
    ),
    Operation(
        method="get", path="/v1/files", name="listFiles", summary="All stored files.", answer=FileList, errors=(503,)
    ),
    Operation(
        method="get",
        path="/v1/files/{file_id}",
        name="downloadFile",
        summary="A stored file's bytes.",
        media="application/octet-stream",
        errors=(404, 503),
    ),
    Operation(
        method="delete",
        path="/v1/files/{file_id}",
        name="deleteFile",
        summary="Delete a stored file.",
        status=204,
        errors=(404, 503),
    ),
    Operation(method="get", path="/health", name="health", summary="Is it alive? From memory, whatever the load."),
    Operation(method="get", path="/ready", name="ready", summary="May it be sent work?", errors=(503,)),
    Operation(method="get", path="/metrics", name="metrics", summary="Prometheus metrics.", media="text/plain"),
)


@cache
def document() -> dict[str, Any]:
    types = [ExecuteBody, FileList, ErrorBody, BatchResult, StoredFile]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, object]] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Code interpreter", "version": SERVICE_VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(each: Operation) -> dict[str, object]:
    errors = each.errors if each.path in ("/health", "/ready") else (401, *each.errors)
    answers: dict[str, object] = {str(status): _answer("An error.", ErrorBody, "application/json") for status in errors}
    answers[str(each.status)] = _answer(each.summary, each.answer, each.media if each.status != 204 else None)
    described: dict[str, object] = {"operationId": each.name, "summary": each.summary, "responses": answers}
    if "{file_id}" in each.path:
        described["parameters"] = [{"name": "file_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    if each.method == "post":
        described["requestBody"] = {"required": True, "content": _upload() if each.status == 201 else _program()}
    return described


def _answer(summary: str, kind: type | None, media: str | None) -> dict[str, object]:
    if media is None:
        return {"description": summary}
    return {"description": summary, "content": {media: {"schema": _reference(kind) if kind else {}}}}


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _program() -> dict[str, object]:
    return {"application/json": {"schema": _reference(ExecuteBody)}}


def _upload() -> dict[str, object]:
    file = {"type": "string", "format": "binary"}
    return {"multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {"file": file}}}}


async def openapi(_request: Request) -> Response:
    return Response(msgspec.json.encode(document()), media_type="application/json")


async def docs(_request: Request) -> Response:
    # SECURITY: nothing on this page is fetched or run; it must not be the way to load a script into this origin.
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(_page(), headers=headers, media_type="text/html")


@cache
def _page() -> str:
    rows = "".join(
        f"<tr><td><code>{each.method.upper()} {html.escape(each.path)}</code><td>{html.escape(each.summary)}"
        for each in OPERATIONS
    )
    schemas = html.escape(msgspec.json.format(msgspec.json.encode(document()["components"]["schemas"])).decode())
    return (
        "<!doctype html><meta charset=utf-8><title>Code interpreter</title>"
        "<style>body{font:16px sans-serif;max-width:60rem;margin:2rem auto}td{padding:.3rem 1rem .3rem 0}</style>"
        f"<h1>Code interpreter {SERVICE_VERSION}</h1><p>For machines: <a href=openapi.json>openapi.json</a>.</p>"
        f"<table>{rows}</table><h2>Bodies</h2><pre>{schemas}</pre>"
    )
