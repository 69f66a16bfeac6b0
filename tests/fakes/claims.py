"""Claims without a store: a dictionary that several replicas may share, suspending where a store would."""

from __future__ import annotations

from anyio.lowlevel import checkpoint

from broker.claims import Claim, Claims, Record
from broker.errors import StorageFailed


class Shelf:
    """What all replicas see."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0
        self.claims: dict[str, Claim] = {}
        self.outcomes: dict[str, Record] = {}
        self.is_broken = False


class ShelfClaims(Claims):
    """One replica's."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(None, ttl_seconds=3600, run_seconds=100, clock=lambda: shelf.now)  # type: ignore[arg-type]  # every use of it is below
        self.shelf = shelf

    async def _create(self, name: str, claim: Claim) -> bool:
        await self._call()
        if name in self.shelf.claims:
            return False
        self.shelf.claims[name] = claim
        await checkpoint()
        return True

    async def _read(self, name: str) -> Claim | None:
        await self._call()
        return self.shelf.claims.get(name)

    async def outcome(self, claim: Claim) -> Record | None:
        await self._call()
        return self.shelf.outcomes.get(claim.nonce)

    async def record(self, claim: Claim, outcome: Record) -> None:
        await self._call()
        self.shelf.outcomes[claim.nonce] = outcome
        await checkpoint()

    async def release(self, name: str) -> None:
        await self._call()
        del self.shelf.claims[name]

    async def _call(self) -> None:
        await checkpoint()
        if self.shelf.is_broken:
            raise StorageFailed("broken")
