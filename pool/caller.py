"""Whoever wants sandboxes, as far as the pool cares: a name to be fair to, and what it may take at once. Pure."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """Callers of the same name are one: they share their turns, their limits, and sandboxes that are used again."""

    name: str = ""
    max_in_flight: int | None = None
    """Sandboxes leased at once; who wants one more waits. None: as many as the pool has."""
    max_waiting: int | None = None
    """Places in the queue. None: as many as the queue has."""


ANYBODY = Caller()
"""Everyone is this one where callers are not told apart."""
