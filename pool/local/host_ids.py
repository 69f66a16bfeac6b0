"""Which uid and gid a sandbox has on the host: its own, for as long as it lives."""

from __future__ import annotations

import random

FIRST_HOST_ID = 0x70000000
HOST_IDS = 0x100000
"""As root each sandbox gets a uid and gid from this range, in turn: far above what people, services and
the usual ranges for containers (/etc/subuid) use."""


class HostIds:
    """Hands out the ids of a range in turn, never one that is out.

    SECURITY: two sandboxes with one uid could count, and be counted, against each other's limits. In turn,
    and from a place of chance on: of another service on this machine, or of a dead sandbox whose end
    nobody saw, an id is met again as late, or as seldom, as can be.
    """

    def __init__(self, first: int = FIRST_HOST_ID, count: int = HOST_IDS, start: int | None = None) -> None:
        self._first, self._count = first, count
        self._next = random.SystemRandom().randrange(count) if start is None else start
        self._out: set[int] = set()

    def take(self) -> int:
        """An id that nobody has. Raises LookupError when all are out."""
        for _ in range(len(self._out) + 1):
            host_id = self._first + self._next % self._count
            self._next = (self._next + 1) % self._count
            if host_id not in self._out:
                self._out.add(host_id)
                return host_id
        raise LookupError(f"all {self._count} ids for sandboxes are out")

    def give_back(self, host_id: int) -> None:
        self._out.discard(host_id)
