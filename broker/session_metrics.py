"""What sessions do: how many are open, how they end, and their calls; of each tenant too, where there are keys."""

from __future__ import annotations

import time
from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import anyio
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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
        self._open = OpenSessions(labels, prefix=prefix)
        registry.register(self._open)
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
        self._tenant_calls = Counter(
            f"{prefix}_tenant_session_calls_total", "Calls, as above.", ["tenant", "outcome"], registry=registry
        )

    def watch(self, tenants: Callable[[], Iterable[str]], *, most: int) -> None:
        """`tenants` are those of the sessions that are open, of all replicas that this one knows of."""
        self._limit.set(most)
        self._open.tenants = tenants

    @contextmanager
    def session(self) -> Iterator[Ending]:
        """From when it is open to its end."""
        ending = Ending()
        self.opened()
        try:
            yield ending
        finally:
            self.ended(ending.reason)

    def opened(self) -> None:
        self._opened.inc()

    def ended(self, reason: str) -> None:
        self._ended.labels(reason).inc()

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


class OpenSessions(Collector):
    """How many there are, at the moment of the scrape."""

    def __init__(self, labels: TenantLabels, *, prefix: str) -> None:
        self.tenants: Callable[[], Iterable[str]] = tuple
        self._labels, self._prefix = labels, prefix
        self._seen: set[str] = set()
        """Labels that go on, at 0, when the last one has ended."""

    def collect(self) -> Iterable[Metric]:
        text, tenants = "Sessions that are open.", list(self.tenants())
        yield GaugeMetricFamily(f"{self._prefix}_sessions_open", text, value=len(tenants))
        counted = Counted(self._labels.of(tenant) for tenant in tenants if tenant)
        self._seen |= counted.keys()
        family = GaugeMetricFamily(f"{self._prefix}_tenant_sessions_open", text, labels=["tenant"])
        for label in sorted(self._seen):
            family.add_metric([label], counted[label])
        yield family
