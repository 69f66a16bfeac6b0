"""One file on its way into the store: invisible until it is kept, gone otherwise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio
import obstore

from broker.errors import FileMissing, StorageFailed
from broker.quotas import charge
from broker.storage import Storage, our_errors

_ABANDON_SECONDS = 5.0


class FileWriter:
    """Takes pieces, holding no more than one of the storage's size. End it with `FileStore.keep` or `abandon`.

    `reserve` is told of what each file costs, and of every piece before it is written; it raises when there is no room.
    """

    def __init__(self, storage: Storage, file_id: str, reserve: Callable[[int], None], *, tenant: str = "") -> None:
        self.file_id = file_id
        self.tenant = tenant
        self.size_bytes = 0
        self._storage = storage
        self._reserve = reserve
        self._reserved_bytes = 0
        # Before there is anything: an empty file is a file too.
        self._charge(charge(0))
        self._path = f"data/{file_id}"
        self._pieces = obstore.open_writer_async(
            storage.objects, self._path, buffer_size=storage.piece_bytes, max_concurrency=1
        )
        self._closed = False

    async def write(self, data: bytes) -> None:
        self._charge(len(data))
        self.size_bytes += len(data)
        with our_errors():
            await self._pieces.write(data)

    async def close(self) -> None:
        """All of it is in the store, though nobody can find it yet. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with our_errors():
            await self._pieces.close()

    async def abandon(self) -> None:
        """Remove what was written. Safe to call twice."""
        self._charge(-self._reserved_bytes)
        self.size_bytes = 0
        with anyio.CancelScope(shield=True), anyio.move_on_after(_ABANDON_SECONDS):
            try:
                await self._remove()
            except StorageFailed:
                return  # The sweep finds it: data without metadata, or metadata without data.

    def _charge(self, size_bytes: int) -> None:
        self._reserve(size_bytes)
        self._reserved_bytes += size_bytes

    async def _remove(self) -> None:
        # Closing first: a bucket keeps the parts of an upload that was never completed, unseen and paid for.
        await self.close()
        # Whoever left while it was being kept may have left metadata, which would list a file that has no data.
        for path in (self._path, f"meta/{self.file_id}"):
            with suppress(FileMissing), our_errors("gone"):
                await obstore.delete_async(self._storage.objects, path)
