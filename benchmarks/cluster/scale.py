"""How much of everything is measured."""

from __future__ import annotations

import msgspec


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    warm_runs: int
    """A p99 of fewer than 500 is a matter of luck."""
    single_runs: int
    pods_per_request: int
    execs_per_request: int
    pings: int
    bursts: int
    plain_starts: int
    """How often as many pods as a burst takes are made by plain calls."""
    sustained_seconds: float
    simulated_pods: int
    watched_seconds: float


FULL = Scale(
    warm_runs=1000,
    single_runs=200,
    pods_per_request=30,
    execs_per_request=100,
    pings=2000,
    bursts=10,
    plain_starts=4,
    sustained_seconds=20.0,
    simulated_pods=500,
    watched_seconds=30.0,
)

QUICK = Scale(
    warm_runs=100,
    single_runs=15,
    pods_per_request=4,
    execs_per_request=10,
    pings=300,
    bursts=2,
    plain_starts=2,
    sustained_seconds=5.0,
    simulated_pods=500,
    watched_seconds=8.0,
)
"""Enough to see that all of it works, in three minutes; not to tell a p99."""
