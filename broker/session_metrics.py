"""What sessions do: how many are open, how they end, and their calls; of each tenant too, where there are keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import anyio
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from broker.errors import SessionMissing
from broker.tenant_metrics import TenantLabels
from pool import PoolError

SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0)
"""Calls are shell commands: shorter ones tell nothing of the service, `phase_duration_seconds` does."""


class Ending(msgspec.Struct):
    reason: Literal["closed", "expired", "lost", "shutdown"] = "shutdown"
    """Of a session that ends without anybody saying why, the service ends."""


class Call(msgspec.Struct):
    outcome: Literal["ok", "timed_out", "cancelled", "error"] = "ok"


class SessionMetrics:
    def __init__(self, registry: CollectorRegistry, labels: TenantLabels, *, prefix: str) -> None:
        self._labels = labels
        self._opened = Counter(f"{prefix}_sessions_opened_total", "Sessions that were opened.", registry=registry)
        self._open = Gauge(f"{prefix}_sessions_open", "Sessions that are open.", registry=registry)
        self._limit = Gauge(f"{prefix}_sessions_limit", "Sessions that may be open.", registry=registry)
        self._ended = Counter(
            f"{prefix}_sessions_ended_total", "Sessions that ended: closed, expired, lost, shutdown.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._calls = Counter(
            f"{prefix}_session_calls_total", "Calls: ok, timed_out, cancelled, error.", ["outcome"], registry=registry
        )
        self._seconds = Histogram(
            f"{prefix}_session_call_seconds", "From a call until its end, its wait for its turn too.",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._tenant_open = Gauge(
            f"{prefix}_tenant_sessions_open", "Sessions that are open.", ["tenant"], registry=registry
        )
        self._tenant_calls = Counter(
            f"{prefix}_tenant_session_calls_total", "Calls, as above.", ["tenant", "outcome"], registry=registry
        )

    def limit(self, most: int) -> None:
        self._limit.set(most)

    @contextmanager
    def session(self, tenant: str) -> Iterator[Ending]:
        """From when it is open to its end."""
        ending = Ending()
        self._opened.inc()
        self._count_open(tenant, 1)
        try:
            yield ending
        finally:
            self._count_open(tenant, -1)
            self._ended.labels(ending.reason).inc()

    @contextmanager
    def call(self, tenant: str) -> Iterator[Call]:
        """One of a session that is not there, or that found no turn, is none: it is counted where it is refused."""
        call, began = Call(), time.monotonic()
        try:
            yield call
        except (SessionMissing, PoolError):
            raise
        except BaseException as error:
            call.outcome = "cancelled" if isinstance(error, anyio.get_cancelled_exc_class()) else "error"
            self._called(tenant, call, began)
            raise
        self._called(tenant, call, began)

    def _called(self, tenant: str, call: Call, began: float) -> None:
        self._calls.labels(call.outcome).inc()
        self._seconds.observe(time.monotonic() - began)
        if tenant:
            self._tenant_calls.labels(self._labels.of(tenant), call.outcome).inc()

    def _count_open(self, tenant: str, change: int) -> None:
        self._open.inc(change)
        if tenant:
            self._tenant_open.labels(self._labels.of(tenant)).inc(change)
