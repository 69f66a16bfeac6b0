"""The file store as one tenant sees it: its own files, its own quota; whatever else is stored is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from broker.file_writer import FileWriter
from broker.files import FileStore, Metadata
from broker.schemas import ListedFile, StoredFile


class Files(Protocol):
    """As much of a store as an upload or a run needs."""

    def write(self) -> FileWriter: ...

    async def keep(self, writer: FileWriter, name: str) -> StoredFile: ...

    async def delete(self, file_id: str) -> None: ...


class TenantFiles:
    """What each raises is in `FileStore`."""

    def __init__(self, store: FileStore, tenant: str, *, quota_bytes: int) -> None:
        self._store = store
        self._tenant = tenant
        self._quota_bytes = quota_bytes

    def write(self) -> FileWriter:
        return self._store.write(self._tenant, quota_bytes=self._quota_bytes)

    async def keep(self, writer: FileWriter, name: str) -> StoredFile:
        return await self._store.keep(writer, name)

    async def find(self, file_id: str) -> Metadata:
        return await self._store.find(file_id, self._tenant)

    def read(self, file_id: str, size_bytes: int) -> AsyncIterator[bytes]:
        """Of a file that was found."""
        return self._store.read(file_id, size_bytes)

    async def delete(self, file_id: str) -> None:
        await self._store.delete(file_id, self._tenant)

    async def listing(self) -> list[ListedFile]:
        return await self._store.listing(self._tenant)
