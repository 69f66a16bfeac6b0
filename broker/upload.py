"""An upload on its way into the store, piece by piece: it costs one piece of memory, however long it is."""

from __future__ import annotations

from starlette.requests import Request

from broker.body import content_type, declared_bytes, pieces
from broker.errors import BadUpload, SchemaError, TooLarge, WrongContentType
from broker.file_writer import FileWriter
from broker.multipart import Event, PartBegin, PartData, PartEnd, Parts
from broker.schemas import StoredFile
from broker.tenant_files import Files

FIELD = "file"
# Boundaries, headers and other parts: what a client may send around the file itself.
MAX_SURROUNDING_BYTES = 64 * 1024


class Upload:
    """The part named `file`; others are read and dropped."""

    def __init__(self, store: Files, *, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._writer: FileWriter | None = None
        self._name = ""
        self._inside = False

    async def take(self, event: Event) -> None:
        match event:
            case PartBegin(name=name) if name == FIELD:
                self._begin(event)
            case PartData(data=data) if self._inside and self._writer is not None:
                await self._write(self._writer, data)
            case PartEnd():
                self._inside = False

    def _begin(self, part: PartBegin) -> None:
        if self._writer is not None:
            raise BadUpload(f"More than one part is named '{FIELD}'.")
        if part.filename is None:
            raise SchemaError("value_error", ("body", FIELD), "Expected a file: the part has no filename")
        self._writer, self._name, self._inside = self._store.write(), part.filename, True

    async def _write(self, writer: FileWriter, data: bytes) -> None:
        if writer.size_bytes + len(data) > self._limit_bytes:
            raise TooLarge(too_large(self._limit_bytes))
        await writer.write(data)

    async def keep(self) -> StoredFile:
        if self._writer is None:
            raise SchemaError("missing", ("body", FIELD), "Field required")
        stored = await self._store.keep(self._writer, self._name)
        self._writer = None
        return stored

    async def abandon(self) -> None:
        """Nothing is left of what was not kept."""
        if self._writer is not None:
            await self._writer.abandon()


async def receive_upload(request: Request, store: Files, *, limit_bytes: int) -> StoredFile:
    """Raises what a caller can do wrong; then nothing of the file is left."""
    parts = Parts(_multipart_type(request))
    whole_bytes = limit_bytes + MAX_SURROUNDING_BYTES
    if declared_bytes(request) > whole_bytes:
        raise TooLarge(too_large(limit_bytes))
    upload = Upload(store, limit_bytes=limit_bytes)
    try:
        async for piece in pieces(request):
            whole_bytes -= len(piece)
            if whole_bytes < 0:
                raise TooLarge(too_large(limit_bytes))
            for event in parts.feed(piece):
                await upload.take(event)
        parts.finish()
        return await upload.keep()
    finally:
        await upload.abandon()


def _multipart_type(request: Request) -> str:
    if content_type(request)[0] != "multipart/form-data":
        raise WrongContentType(f"Content-Type must be multipart/form-data, with one part named '{FIELD}'.")
    return request.headers["content-type"]


def too_large(limit_bytes: int) -> str:
    return f"File size exceeds maximum of {limit_bytes // 2**20} MB"
