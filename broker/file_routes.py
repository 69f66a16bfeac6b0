"""`/v1/files`: upload, list, download, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from broker.file_names import DEFAULT_TYPE, content_disposition
from broker.service import service_of
from broker.tenants import tenant_of
from broker.upload import receive_upload


async def upload_file(request: Request) -> Response:
    service = service_of(request)
    files = service.files(tenant_of(request))
    stored = await receive_upload(request, files, limit_bytes=service.settings.file_size_bytes)
    service.metrics.file("uploaded", stored.size_bytes)
    return Response(msgspec.json.encode(stored), status_code=201, media_type="application/json")


async def list_files(request: Request) -> Response:
    files = await service_of(request).files(tenant_of(request)).listing()
    return Response(msgspec.json.encode({"files": files}), media_type="application/json")


async def download_file(request: Request) -> Response:
    service, file_id = service_of(request), request.path_params["file_id"]
    files = service.files(tenant_of(request))
    found = await files.find(file_id)
    service.metrics.file("downloaded", found.size_bytes)
    headers = {
        "Content-Length": str(found.size_bytes),
        "Content-Disposition": content_disposition(found.filename),
        # SECURITY: whatever a program wrote, a browser must not run it in this origin.
        "X-Content-Type-Options": "nosniff",
    }
    body = _nothing() if request.method == "HEAD" else await _begun(files.read(file_id, found.size_bytes))
    return StreamingResponse(body, headers=headers, media_type=DEFAULT_TYPE)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, the first one in hand: what cannot be read at all is a status, not a broken body."""
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return all_pieces()


async def delete_file(request: Request) -> Response:
    await service_of(request).files(tenant_of(request)).delete(request.path_params["file_id"])
    return Response(status_code=204)
