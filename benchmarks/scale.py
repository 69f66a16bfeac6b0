"""How much of everything is measured."""

from __future__ import annotations

import msgspec


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    arrivals: int
    """Requests of each row of latencies. A p99 of fewer than 500 is a matter of luck."""
    bare_prints: int
    bare_group_bys: int
    sustained_seconds: float
    beside_hogs: int
    bursts: int
    sleepers: int
    beside_flood: int
    idle_sizes: tuple[int, int]
    runs: tuple[int, int]
    """After so many runs, and after so many more, the same must be there."""


FULL = Scale(
    arrivals=1000,
    bare_prints=200,
    bare_group_bys=30,
    sustained_seconds=20.0,
    beside_hogs=500,
    bursts=10,
    sleepers=300,
    beside_flood=60,
    idle_sizes=(20, 60),
    runs=(1_000, 10_000),
)

QUICK = Scale(
    arrivals=150,
    bare_prints=30,
    bare_group_bys=5,
    sustained_seconds=5.0,
    beside_hogs=100,
    bursts=3,
    sleepers=100,
    beside_flood=20,
    idle_sizes=(10, 20),
    runs=(100, 1_000),
)
"""A few minutes' worth of the truth: enough to see that all of it works, not to tell a p99."""
