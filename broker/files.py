"""The files of all clients: uploads, and what programs made. Kept for a while, then gone.

Rule 1: a file is two objects, `data/<id>` and, written last, `meta/<id>`. Without its metadata it does not exist.
Rule 2: an id is a UUID in our spelling. Anything else is not found, and never becomes part of a path.
Rule 3: a file is found by the tenant that stored it, and for others it is not there. Without keys everyone is the
        tenant "", and so is who forgets to say.
Rule 4: the age counts from the upload time in the metadata, so that neither a restart nor a restored
        folder makes a file younger. It ends on read at once, and on disk at the next sweep.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Self

import anyio
import msgspec
import obstore

from broker.at_once import for_each
from broker.errors import FileMissing
from broker.file_names import stored_name
from broker.file_writer import FileWriter
from broker.quotas import Kind, Quotas, charge
from broker.schemas import ListedFile, StoredFile
from broker.storage import Storage, our_errors

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
# Reads of metadata at once when listing: more is faster on a bucket, fewer leaves connections to requests.
LISTING_CONCURRENCY = 16
SETTLE_SECONDS = 0.1


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `meta/<id>` holds."""

    filename: str
    size_bytes: int
    upload_time: float
    tenant: str = ""
    """Whose it is; of files that were stored without keys, nobody's who has one."""


class FileStore:
    """All files under one storage. `clock` is the wall clock: ages must survive a restart."""

    def __init__(
        self, storage: Storage, *, ttl_seconds: float, quota_bytes: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self.storage = storage
        self.ttl_seconds = ttl_seconds
        self.quotas = Quotas(quota_bytes)
        self.clock = clock
        self._going: set[tuple[str, str]] = set()
        """Those that a tenant is deleting just now."""
        self._seen: dict[str, Metadata] = {}
        """Metadata never changes, so listing and sweeping read each once; requests ask the storage."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Its threads hand results over to the event loop; one that does so in a dying interpreter aborts the process.
        with anyio.CancelScope(shield=True), anyio.move_on_after(SETTLE_SECONDS):
            await anyio.sleep_forever()

    def write(self, tenant: str = "", *, quota_bytes: int = 0) -> FileWriter:
        """A new file. The caller ends it with `keep` or with the writer's `abandon`. Raises `StorageFull`."""
        reserve = partial(self._reserve, tenant, quota_bytes)
        return FileWriter(self.storage, str(uuid.uuid4()), reserve, tenant=tenant)

    async def keep(self, writer: FileWriter, name: str) -> StoredFile:
        """From now on the file can be found."""
        await writer.close()
        found = Metadata(
            filename=stored_name(name), size_bytes=writer.size_bytes, upload_time=self.clock(), tenant=writer.tenant
        )
        with our_errors():
            await obstore.put_async(
                self.storage.objects, f"meta/{writer.file_id}", msgspec.json.encode(found), use_multipart=False
            )
        self.quotas.kept(writer.tenant, charge(found.size_bytes))
        return StoredFile(file_id=writer.file_id, filename=found.filename, size_bytes=found.size_bytes)

    async def find(self, file_id: str, tenant: str = "") -> Metadata:
        """Raises `FileMissing` when there is no such file, it is another's, or it is too old."""
        if not _UUID.fullmatch(file_id):
            raise FileMissing(_not_found(file_id))
        found = await self.metadata(file_id)
        # SECURITY: an id is hard to guess, but it travels through logs and models; it must open nothing to another
        # tenant, nor tell that it exists (tests/integration/test_http_tenants.py).
        if found.tenant != tenant or self.is_expired(found):
            raise FileMissing(_not_found(file_id))
        return found

    async def metadata(self, file_id: str) -> Metadata:
        with our_errors(_not_found(file_id)):
            got = await obstore.get_async(self.storage.objects, f"meta/{file_id}")
            data = bytes(await got.bytes_async())
        return _metadata(data, file_id)

    async def read(self, file_id: str, size_bytes: int) -> AsyncIterator[bytes]:
        """The bytes of a found file, in pieces; by ranges, so that a slow taker holds no call open."""
        for start in range(0, size_bytes, self.storage.piece_bytes):
            end = min(start + self.storage.piece_bytes, size_bytes)
            with our_errors(_not_found(file_id)):
                piece = bytes(
                    await obstore.get_range_async(self.storage.objects, f"data/{file_id}", start=start, end=end)
                )
            if len(piece) != end - start:
                raise FileMissing(_not_found(file_id))
            yield piece

    async def delete(self, file_id: str, tenant: str = "") -> None:
        """Raises `FileMissing`."""
        this = (tenant, file_id)
        # SECURITY: of many who delete it at once only one gives its bytes back to the quota (tests/unit/test_files.py).
        if this in self._going:
            raise FileMissing(_not_found(file_id))
        self._going.add(this)
        try:
            found = await self.find(file_id, tenant)
            await self.remove(file_id)
            self.quotas.add(Kind.FILES, tenant, -charge(found.size_bytes))
        finally:
            self._going.remove(this)

    async def remove(self, file_id: str) -> None:
        """Metadata first: half done, it leaves data that the sweep takes. Already gone is as good."""
        for path in (f"meta/{file_id}", f"data/{file_id}"):
            await self.remove_object(path)

    async def remove_object(self, path: str) -> None:
        with suppress(FileMissing), our_errors("gone"):
            await obstore.delete_async(self.storage.objects, path)

    async def listing(self, tenant: str = "") -> list[ListedFile]:
        """All of a tenant's that have not expired, oldest first."""
        found = await self.all_metadata([file_id async for file_id, _ in self.objects("meta")])
        theirs = {file_id: each for file_id, each in found.items() if each.tenant == tenant}
        current = [_listed(file_id, each) for file_id, each in theirs.items() if not self.is_expired(each)]
        return sorted(current, key=lambda each: (each.upload_time, each.file_id))

    async def all_metadata(self, file_ids: list[str]) -> dict[str, Metadata]:
        found = {file_id: self._seen[file_id] for file_id in file_ids if file_id in self._seen}

        async def read_one(file_id: str) -> None:
            # It may be deleted between the listing and now.
            with suppress(FileMissing):
                found[file_id] = await self.metadata(file_id)

        unseen = [file_id for file_id in file_ids if file_id not in found]
        await for_each(unseen, min(LISTING_CONCURRENCY, len(unseen)), read_one)
        self._seen = found
        return found

    async def objects(self, folder: str) -> AsyncIterator[tuple[str, obstore.ObjectMeta]]:
        """Ids and facts of the objects in `data` or `meta`; what is not named as ours is left alone."""
        with our_errors():
            async for batch in obstore.list(self.storage.objects, prefix=folder):
                for each in batch:
                    name = each["path"].rpartition("/")[2]
                    if _UUID.fullmatch(name):
                        yield name, each

    def is_expired(self, found: Metadata, grace_seconds: float = 0.0) -> bool:
        return self.clock() - found.upload_time >= self.ttl_seconds + grace_seconds

    def _reserve(self, tenant: str, quota_bytes: int, size_bytes: int) -> None:
        if size_bytes > 0:
            self.quotas.check(tenant, size_bytes, quota_bytes)
        self.quotas.add(Kind.WRITING, tenant, size_bytes)


def _not_found(file_id: str) -> str:
    return f"File with ID '{file_id[:256]}' not found"


def _listed(file_id: str, found: Metadata) -> ListedFile:
    return ListedFile(
        file_id=file_id, filename=found.filename, size_bytes=found.size_bytes, upload_time=found.upload_time
    )


def _metadata(data: bytes, file_id: str) -> Metadata:
    try:
        return msgspec.json.decode(data, type=Metadata)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A disk that was full, or a power cut: what cannot be described cannot be found, and is swept.
        raise FileMissing(_not_found(file_id)) from None
