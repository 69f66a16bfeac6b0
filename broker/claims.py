"""Idempotency keys in the file store: who may run a request, and what has become of it.

Rule 1: `claims/<name>` is made only where nothing is of that name. Whoever made it runs; nobody else ever does.
Rule 2: `outcomes/<nonce>@<tenant>` is written by the claim's maker alone, before anybody is told. The nonce is the
        claim's own, so that no claim finds another's outcome.
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
from broker.quotas import Kind, Quotas, charge
from broker.schemas import Result
from broker.storage import Storage, our_errors

# The store's own tries take up to 30 s. Shielded from the caller's leaving: what was claimed must be known.
CLAIM_SECONDS = 35.0
# Between a refused claim and its reading the maker may give it up, once or twice.
ATTEMPTS = 3
# For so long a claim of which nobody heard that it was made waits for its caller's next try. More needs a claim to hold
# for longer beyond its run (`service.CLAIM_SLACK_SECONDS`); less answers `outcome_unknown` to callers who pause.
TAKE_OVER_SECONDS = 60.0


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What `claims/<name>` holds."""

    digest: str
    """Of the request: another one may not use the key."""
    nonce: str
    owner: str
    """The replica, anew with each start."""
    until: float
    """By the wall clock."""
    tenant: str = ""
    """Whose quota its outcome counts against."""

    @property
    def outcome_path(self) -> str:
        """Says whose it is, so that a sweep can count without reading."""
        return f"outcomes/{self.nonce}@{self.tenant}" if self.tenant else f"outcomes/{self.nonce}"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim's `outcome_path` holds: a result, or what the callers were told in its place."""

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
        quotas: Quotas | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.storage = storage
        self.owner = uuid.uuid4().hex
        self.ttl_seconds = ttl_seconds
        self.clock = clock
        self.quotas = Quotas() if quotas is None else quotas
        """Those of the files, as both lie in one store."""
        self._run_seconds = run_seconds
        self._unsure: dict[str, float] = {}
        """Nonces of claims of which nobody said whether they were made, oldest first, and until when they hold."""

    def new(self, digest: str, tenant: str = "") -> Claim:
        until = self.clock() + self._run_seconds
        return Claim(digest=digest, nonce=str(uuid.uuid4()), owner=self.owner, until=until, tenant=tenant)

    async def make(self, name: str, claim: Claim, *, quota_bytes: int = 0) -> Claim:
        """The claim that stands: this one, or the one that was there; `quota_bytes` is its tenant's.

        Raises `StorageFull` or `StorageFailed`.
        """
        try:
            # SECURITY: outcomes hold what programs print: without an end they fill the disk, and without an end for
            # each tenant one leaves no room for the others' (tests/integration/test_http_tenants.py).
            self.quotas.check(claim.tenant, charge(0), quota_bytes)
        except StorageFull:
            standing = await self._read(name)
            if standing is None:
                raise
            return standing
        return await self._made(name, claim)

    async def _made(self, name: str, claim: Claim) -> Claim:
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLAIM_SECONDS):
            for _ in range(ATTEMPTS):
                standing = await self._standing(name, claim)
                if standing is not None:
                    return standing
        raise StorageFailed("The idempotency key could not be claimed; try again.")

    async def _standing(self, name: str, claim: Claim) -> Claim | None:
        """What stands under the name, after an attempt to make this one. None where that was given up just now."""
        self._doubt(claim)
        try:
            is_made = await self._create(name, claim)
        except StorageFailed:
            # It may have been made all the same: whoever stands there tells.
            standing = await self._read(name)
            is_made = standing is not None and standing.nonce == claim.nonce
            if not is_made:
                return standing
        # One that the store tried twice may be refused and be this one all the same: until that is read it is in doubt.
        standing = claim if is_made else await self._read(name)
        # Another claim may have forgotten it meanwhile: wall clocks jump.
        self._unsure.pop(claim.nonce, None)
        return standing

    def _doubt(self, claim: Claim) -> None:
        while self._unsure and next(iter(self._unsure.values())) <= self.clock():
            del self._unsure[next(iter(self._unsure))]
        self._unsure[claim.nonce] = claim.until

    def takes_over(self, standing: Claim, digest: str) -> bool:
        """Is it one of ours of which we never learnt that we had made it? Nothing has run under it: now it may, once.

        It is not made anew, nor deleted: a call to the store of which nobody heard may still be carried out, after
        any other. Not when it is old: its `until`, by which others judge, would end before its run does.
        """
        is_young = standing.until - self.clock() > self._run_seconds - TAKE_OVER_SECONDS
        if standing.nonce not in self._unsure or standing.digest != digest or not is_young:
            return False
        del self._unsure[standing.nonce]
        return True

    async def outcome(self, claim: Claim) -> Record | None:
        """None where there is none, or none that this version can read."""
        try:
            return msgspec.msgpack.decode(await self._get(claim.outcome_path), type=Record)
        except (FileMissing, msgspec.DecodeError):
            return None

    async def record(self, claim: Claim, outcome: Record) -> None:
        data = msgspec.msgpack.encode(outcome)
        with our_errors():
            await obstore.put_async(self.storage.objects, claim.outcome_path, data, use_multipart=False)
        self.quotas.add(Kind.OUTCOMES, claim.tenant, charge(len(data)))

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
