"""Idempotency keys in the file store: who may run a request, and what has become of it.

Rule 1: `claims/<name>` is made only where nothing is of that name. Whoever made it runs; nobody else ever does.
Rule 2: `outcomes/<nonce>` is written by the claim's maker alone, before anybody is told. The nonce is the claim's own,
        so that no claim finds another's outcome.
Rule 3: a claim says until when its run must have ended. Without an outcome by then there will be none.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable

import anyio
import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError

from broker.errors import Answer, FileMissing, StorageFailed, StorageFull
from broker.output_log import OutputLog
from broker.schemas import Result
from broker.storage import Storage, our_errors

# The store's own tries take up to 30 s. Shielded from the caller's leaving: what was claimed must be known.
CLAIM_SECONDS = 35.0
# Between a refused claim and its reading the maker may give it up, once or twice.
ATTEMPTS = 3


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What `claims/<name>` holds."""

    digest: str
    """Of the request: another one may not use the key."""
    nonce: str
    owner: str
    """The replica, anew with each start."""
    until: float
    """By the wall clock."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What `outcomes/<nonce>` holds: a result, or what the callers were told in its place."""

    execution_id: str
    output: OutputLog
    result: Result | None
    failure: Answer | None


def claim_name(caller: str, key: str) -> str:
    # SECURITY: a key is the caller's text: as a path it could name any object of the store, and another caller's key
    # (tests/unit/test_claims.py). JSON keeps the two apart whatever they hold.
    return hashlib.sha256(msgspec.json.encode([caller, key])).hexdigest()


class Claims:
    """Those of one replica. `clock` is the wall clock: other replicas read what it says.

    SECURITY: they lie beside `data` and `meta`, under names that no file id can have: `/v1/files` neither lists nor
    reads nor deletes them (tests/integration/test_http_idempotency.py).
    """

    def __init__(
        self,
        storage: Storage,
        *,
        ttl_seconds: float,
        run_seconds: float,
        quota_bytes: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.storage = storage
        self.owner = uuid.uuid4().hex
        self.ttl_seconds = ttl_seconds
        self.clock = clock
        self.stored_bytes = 0
        """Of outcomes, as the last sweep counted, and what was written since."""
        self._run_seconds = run_seconds
        self._quota_bytes = quota_bytes

    def new(self, digest: str) -> Claim:
        return Claim(digest=digest, nonce=str(uuid.uuid4()), owner=self.owner, until=self.clock() + self._run_seconds)

    async def make(self, name: str, claim: Claim) -> Claim:
        """The claim that stands: this one, or the one that was there. Raises `StorageFull` or `StorageFailed`."""
        if not self._has_room():
            standing = await self._read(name)
            if standing is None:
                raise self._full()
            return standing
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLAIM_SECONDS):
            for _ in range(ATTEMPTS):
                standing = claim if await self._create(name, claim) else await self._read(name)
                if standing is not None:
                    return standing
        raise StorageFailed("The idempotency key could not be claimed; try again.")

    async def outcome(self, claim: Claim) -> Record | None:
        """None where there is none, or none that this version can read."""
        try:
            return msgspec.msgpack.decode(await self._get(f"outcomes/{claim.nonce}"), type=Record)
        except (FileMissing, msgspec.DecodeError):
            return None

    async def record(self, claim: Claim, outcome: Record) -> None:
        data = msgspec.msgpack.encode(outcome)
        with our_errors():
            await obstore.put_async(self.storage.objects, f"outcomes/{claim.nonce}", data, use_multipart=False)
        self.stored_bytes += len(data)

    async def release(self, name: str) -> None:
        """By the claim's maker: nothing has run, and the key may be used again."""
        with our_errors("gone"):
            await obstore.delete_async(self.storage.objects, f"claims/{name}")

    async def _create(self, name: str, claim: Claim) -> bool:
        with our_errors():
            try:
                await obstore.put_async(
                    self.storage.objects,
                    f"claims/{name}",
                    msgspec.json.encode(claim),
                    mode="create",
                    use_multipart=False,
                )
            except AlreadyExistsError:
                return False
        return True

    async def _read(self, name: str) -> Claim | None:
        try:
            return msgspec.json.decode(await self._get(f"claims/{name}"), type=Claim)
        except FileMissing:
            return None
        except msgspec.DecodeError:
            raise StorageFailed("The claim of the idempotency key cannot be read; use another key.") from None

    async def _get(self, path: str) -> bytes:
        with our_errors("gone"):
            return bytes(await (await obstore.get_async(self.storage.objects, path)).bytes_async())

    def _has_room(self) -> bool:
        # SECURITY: outcomes hold what programs print, at no cost to the caller: without an end they fill the disk.
        return not 0 < self._quota_bytes <= self.stored_bytes

    def _full(self) -> StorageFull:
        return StorageFull(
            f"Stored outcomes take {self.stored_bytes} bytes, at most {self._quota_bytes};"
            " wait for some to expire, or leave out the Idempotency-Key."
        )
