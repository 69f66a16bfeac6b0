"""What each tenant has in the store, and how much it may have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from broker.errors import StorageFull

ENTRY_BYTES = 64 * 1024
"""What each file, and each outcome, counts beside its own bytes: two objects of the store, a line of each listing, a
look in each sweep. More makes small files dear; less lets a quota hold so many empty ones that lists of them fill the
memory, and they the inodes."""


class Kind(StrEnum):
    FILES = "files"
    """As the last sweep counted, and what came and went since; those that are nobody's yet count as nobody's."""
    WRITING = "writing"
    OUTCOMES = "outcomes"
    """Of runs with an idempotency key; counted as files are."""


def charge(size_bytes: int) -> int:
    """What an entry of this size counts."""
    return size_bytes + ENTRY_BYTES


class Quotas:
    """All sizes are as they are charged; a limit of 0 is none. Without keys everyone is the tenant ""."""

    def __init__(self, limit_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        """Of all tenants together."""
        self._taken: dict[Kind, dict[str, int]] = {kind: {} for kind in Kind}

    @property
    def used_bytes(self) -> int:
        return sum(map(self.total, Kind))

    def total(self, kind: Kind) -> int:
        return sum(self._taken[kind].values())

    def of(self, tenant: str) -> int:
        return sum(taken.get(tenant, 0) for taken in self._taken.values())

    def by_tenant(self) -> dict[str, int]:
        return {tenant: self.of(tenant) for taken in self._taken.values() for tenant in taken}

    def check(self, tenant: str, size_bytes: int, limit_bytes: int) -> None:
        """Is there room for so much more, within this limit of the tenant's own? Raises `StorageFull`."""
        _check("This tenant's files", self.of(tenant) + size_bytes, limit_bytes)
        _check("Stored files", self.used_bytes + size_bytes, self.limit_bytes)

    def add(self, kind: Kind, tenant: str, size_bytes: int) -> None:
        """Negative takes away."""
        taken = self._taken[kind]
        # What another replica stored, and this one deletes, was never counted here.
        taken[tenant] = max(0, taken.get(tenant, 0) + size_bytes)
        if not taken[tenant]:
            # Tenants come and go with their keys.
            del taken[tenant]

    def kept(self, tenant: str, size_bytes: int) -> None:
        """What was being written is stored now."""
        self.add(Kind.WRITING, tenant, -size_bytes)
        self.add(Kind.FILES, tenant, size_bytes)

    def counted(self, kind: Kind) -> dict[str, int]:
        """For `recount`, before a sweep looks."""
        return dict(self._taken[kind])

    def recount(self, kind: Kind, found: Mapping[str, int], before: Mapping[str, int]) -> None:
        """A sweep has found this. What came while it looked is counted on top: rather too much than too little."""
        now = self._taken[kind]
        came = {tenant: max(0, now.get(tenant, 0) - before.get(tenant, 0)) for tenant in now}
        both = {tenant: found.get(tenant, 0) + came.get(tenant, 0) for tenant in {*found, *came}}
        self._taken[kind] = {tenant: size for tenant, size in both.items() if size}


def _check(whose: str, after_bytes: int, limit_bytes: int) -> None:
    if 0 < limit_bytes < after_bytes:
        raise StorageFull(
            f"{whose} would take {after_bytes} bytes, at most {limit_bytes}, where each counts {ENTRY_BYTES} beside its"
            " own; delete some or let them expire."
        )
