"""Which replicas are dead, as one observer can know it: by its own clock, and only while it can see. Pure.

Each replica renews a Lease; one that has not changed for `DEAD_SECONDS` is a dead replica's. Not by the times written
in it: clocks differ. After an outage of the API server every Lease is stale, its owner alive as we are: so the count
begins anew with the first successful read (client-go `tools/leaderelection` compares records the same way).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

RENEW_SECONDS = 5.0
"""Between two renewals. Shorter costs writes for nothing; longer makes `DEAD_SECONDS` longer."""

DEAD_SECONDS = 20.0
"""Less takes a replica for dead whose renewals were slow three times in a row; more keeps pods of unknown history."""


class _Seen(msgspec.Struct, frozen=True):
    version: str | None
    """Of the Lease; None while there is none."""
    since: float
    """When it was first seen like this, on the observer's clock."""


class Witness:
    """What one replica has seen of the others."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._is_blind = True

    def read(self, leases: Mapping[str, str], owners: Iterable[str], now: float) -> None:
        """All Leases were read: their versions by owner. `owners` are those whom pods name, who may have none."""
        before = {} if self._is_blind else self._seen
        self._is_blind = False
        versions = {**dict.fromkeys(owners), **leases}
        self._seen = {owner: _judged(before.get(owner), version, now) for owner, version in versions.items()}

    def lost_sight(self) -> None:
        """A read failed: nothing that was seen before counts any more."""
        self._is_blind = True

    def dead(self, now: float) -> set[str]:
        """Those whose pods may be deleted. Nobody while we cannot see."""
        if self._is_blind:
            return set()
        return {owner for owner, seen in self._seen.items() if now - seen.since >= DEAD_SECONDS}


def _judged(before: _Seen | None, version: str | None, now: float) -> _Seen:
    return before if before is not None and before.version == version else _Seen(version, now)
