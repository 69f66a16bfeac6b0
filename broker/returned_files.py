"""The files of one run, stored as they stream out of the sandbox; taken back unless the answer reached its caller."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio
import structlog

from broker.errors import BrokerError, StorageFull
from broker.file_names import mime_type
from broker.file_writer import FileWriter
from broker.schemas import ReturnedFile, SkippedPath
from broker.tenant_files import Files

_log = structlog.get_logger()
_TAKE_BACK_SECONDS = 10.0


class ReturnedFiles:
    """A context: leave it without `delivered` set, and nothing is left in the store."""

    def __init__(self, store: Files) -> None:
        self.kept: list[ReturnedFile] = []
        self.skipped: list[SkippedPath] = []
        """What could not be stored: the run has ended all the same, and its answer says so."""
        self.delivered = False
        self._store = store
        self._writer: FileWriter | None = None
        self._skipping = False

    async def take(self, path: str, data: bytes, *, last: bool) -> None:
        if not self._skipping:
            await self._write(path, data, last=last)
        if last:
            self._writer, self._skipping = None, False

    async def _write(self, path: str, data: bytes, *, last: bool) -> None:
        try:
            self._writer = self._writer or self._store.write()
            await self._writer.write(data)
            if last:
                self.kept.append(await self._keep(self._writer, path))
        except BrokerError as error:
            await self._skip(path, error)

    async def _keep(self, writer: FileWriter, path: str) -> ReturnedFile:
        stored = await self._store.keep(writer, path)
        return ReturnedFile(path=path, file_id=stored.file_id, size_bytes=stored.size_bytes, mime_type=mime_type(path))

    async def _skip(self, path: str, error: BrokerError) -> None:
        _log.warning("files.not_stored", reason=type(error).__name__)
        self.skipped.append(SkippedPath(path, "storage_full" if isinstance(error, StorageFull) else "storage_failed"))
        self._skipping = True
        if self._writer is not None:
            await self._writer.abandon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.delivered:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_TAKE_BACK_SECONDS):
                await self._take_back()

    async def _take_back(self) -> None:
        if self._writer is not None and not self._skipping:
            await self._writer.abandon()
        for file in self.kept:
            try:
                await self._store.delete(file.file_id)
            except BrokerError:
                continue  # Its time ends anyway.
