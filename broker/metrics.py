"""Every metric in one place. Pool gauges read a snapshot when they are asked for, so they cannot drift.

Names that dashboards for Onyx's code interpreter know keep their meaning. Label values come from fixed sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import anyio
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.errors import Answer, ClientGone, NoSessions, SessionMissing, TenantLimited, kind_of
from broker.schemas import Result
from broker.session_metrics import SessionMetrics
from broker.tenant_metrics import OneTenants, TenantMetrics
from pool import InputsRefused, PoolError, Retirement, Snapshot

_log = structlog.get_logger()
# One more series for each counter and histogram, which no dashboard reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

PREFIX = "code_interpreter"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
# Reasons of failed starts are words of the backend's; one that is made up each time must not become a label each.
MAX_REASONS = 32


Outcome = Literal["ok", "timed_out", "error"]


REFUSALS = (PoolError, TenantLimited, NoSessions, SessionMissing, InputsRefused)
"""Before anything has run."""


class Execution:
    """What one run came to, for the counters."""

    def __init__(self) -> None:
        self.outcome: Outcome = "error"

    def ended(self, ended: Result | Answer) -> None:
        if isinstance(ended, Result):
            self.outcome = "timed_out" if ended.timed_out else "ok"


class Metrics:
    """Counts requests and runs, and observes the pool. One registry each, so that tests start from zero."""

    def __init__(self, *, max_in_flight: int, version: str, backend: str) -> None:
        self.registry = CollectorRegistry()
        self._reasons: set[str] = set()
        self._requests()
        self._executions(max_in_flight)
        self._pool()
        self._files()
        self.tenants = TenantMetrics(self.registry, prefix=PREFIX, buckets=SECONDS)
        self.sessions = SessionMetrics(self.registry, self.tenants.labels, prefix=PREFIX)
        self._gauge("build_info", "Always 1; its labels say what runs here.", "version", "backend").labels(
            version, backend
        ).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, buckets=SECONDS, registry=self.registry)

    def _requests(self) -> None:
        count, spread = self._counter, self._histogram
        self.http_requests = count("http_requests_total", "Answers.", "method", "route", "status")
        self.http_duration = spread(
            "http_request_duration_seconds", "From a request's head to its answer's end.", "route"
        )

    def _executions(self, max_in_flight: int) -> None:
        count, spread = self._counter, self._histogram
        self.active = self._gauge("executions_active", "Runs that hold a sandbox, and calls of sessions.", "operation")
        self._gauge("executions_limit", "Runs that may hold a sandbox at once.").set(max_in_flight)
        refused = "Runs refused before they began."
        self.refused = count("executions_rejected_total", refused, "operation", "status", "reason")
        self.completed = count("executions_completed_total", "Runs: ok, timed_out, error.", "operation", "outcome")
        self.admission_wait = spread("admission_wait_seconds", "Wait of the runs that got a sandbox.", "operation")
        self.duration = spread("execution_duration_seconds", "For how long a run held its sandbox.", "operation")
        self.phases = spread("phase_duration_seconds", "Parts of a run: queue, lease, stage, run, collect.", "phase")
        self.terminations = count("terminations_total", "Why programs ended; or lost, misbehaved, cancelled.", "reason")

    def _pool(self) -> None:
        count, spread = self._counter, self._histogram
        self.leases = count("pool_leases_total", "Sandboxes leased: a hit when one was ready.", "result")
        self.lease_wait = spread("pool_lease_wait_seconds", "Wait for a sandbox: hit, miss, refused.", "result")
        self.refusals = count("pool_refusals_total", "Callers who got no sandbox.", "reason")
        self.starts = spread("sandbox_start_seconds", "From an attempt's begin until a sandbox was warm.")
        self.start_failures = count("sandbox_start_failures_total", "Sandboxes that did not become warm.", "reason")
        self.retired = count("sandboxes_retired_total", "Sandboxes that ended.", "reason")
        self.cleanings = spread("sandbox_clean_seconds", "Wiping a sandbox between two runs, and proving it clean.")
        self.not_clean = count("sandboxes_not_clean_total", "Cleanings that found something left.")
        self.destroy_failures = count("sandbox_destroy_failures_total", "Failed attempts to end a sandbox.")

    def _files(self) -> None:
        self.files = self._counter("files_total", "Files: uploaded, returned by a run, downloaded, expired.", "event")
        self.file_bytes = self._counter("file_bytes_total", "Bytes of these files.", "event")

    # --- HTTP ---

    def answered(self, *, method: str, route: str, status: int, seconds: float) -> None:
        shown = method if method in METHODS else "other"
        self.http_requests.labels(shown, route, str(status)).inc()
        self.http_duration.labels(route).observe(seconds)

    def rejected(self, operation: str, error: PoolError | TenantLimited, tenant: str) -> None:
        kind = kind_of(type(error))
        self.refused.labels(operation, str(kind.status), kind.code).inc()
        self.tenants.refused(tenant, kind.code)

    @contextmanager
    def execution(self, operation: str, tenant: str, *, queue_ms: float) -> Iterator[Execution]:
        """From the lease, or the turn in a session, to its end."""
        self.admission_wait.labels(operation).observe(queue_ms / 1000)
        with (
            self.operation(operation) as execution,
            self.tenants.run(tenant, lambda: execution.outcome, wait_seconds=queue_ms / 1000),
        ):
            yield execution

    @contextmanager
    def operation(self, operation: str) -> Iterator[Execution]:
        """From its begin to its end. What was refused, or whose caller has left, did not come to one."""
        execution, began, has_ended = Execution(), time.monotonic(), True
        self.active.labels(operation).inc()
        try:
            yield execution
        except (*REFUSALS, ClientGone, anyio.get_cancelled_exc_class()):
            has_ended = False
            raise
        finally:
            self.active.labels(operation).dec()
            if has_ended:
                self.completed.labels(operation, execution.outcome).inc()
                self.duration.labels(operation).observe(time.monotonic() - began)

    def result(self, ended: Result) -> None:
        for phase in ("queue", "lease", "stage", "run", "collect"):
            self.phases.labels(phase).observe(getattr(ended.timings_ms, phase) / 1000)
        for file in ended.files:
            self.file("returned", file.size_bytes)

    def file(self, event: str, size_bytes: int) -> None:
        self.files.labels(event).inc()
        self.file_bytes.labels(event).inc(size_bytes)

    def text(self, tenant: str | None = None) -> bytes:
        """For whoever may see all, or for one tenant."""
        return generate_latest(self.registry if tenant is None else OneTenants(self.registry, tenant))

    # --- pool.Observer ---

    def lease_granted(self, *, warm: bool, wait_seconds: float) -> None:
        result = "hit" if warm else "miss"
        self.leases.labels(result).inc()
        self.lease_wait.labels(result).observe(wait_seconds)

    def lease_refused(self, *, reason: str, wait_seconds: float) -> None:
        self.refusals.labels(reason).inc()
        self.lease_wait.labels("refused").observe(wait_seconds)

    def sandbox_started(self, *, seconds: float) -> None:
        self.starts.observe(seconds)

    def sandbox_start_failed(self, *, reason: str, text: str) -> None:
        self.start_failures.labels(self._known(reason)).inc()
        _log.warning("sandbox.start_failed", reason=reason, text=text[:256])

    def sandbox_retired(self, *, reason: Retirement) -> None:
        self.retired.labels(reason.value).inc()

    def destroy_failed(self, *, sandbox: str, text: str) -> None:
        self.destroy_failures.inc()
        _log.error("sandbox.destroy_failed", sandbox=sandbox, text=text[:256])

    def sandbox_cleaned(self, *, seconds: float, findings: int) -> None:
        self.cleanings.observe(seconds)
        self.not_clean.inc(findings > 0)

    def run_ended(self, *, result: str) -> None:
        self.terminations.labels(result).inc()

    def _known(self, reason: str) -> str:
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            return "other"
        self._reasons.add(reason)
        return reason


class PoolCollector(Collector):
    """The pool, and the store, at the moment of the scrape."""

    def __init__(self, snapshot: Callable[[], Snapshot], stored_bytes: Callable[[], int]) -> None:
        self._snapshot = snapshot
        self._stored_bytes = stored_bytes

    def collect(self) -> Iterable[Metric]:
        now = self._snapshot()
        slots = GaugeMetricFamily(f"{PREFIX}_pool_slots", "Sandboxes by state.", labels=["state"])
        for state, count in now.slots.items():
            slots.add_metric([state], count)
        yield slots
        for name, text, value in self._numbers(now):
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)

    def _numbers(self, now: Snapshot) -> Iterator[tuple[str, str, float]]:
        yield "pool_size", "Sandboxes to be kept warm.", now.size
        yield "pool_limit", "Sandboxes that may exist.", now.limit
        yield "pool_waiting", "Requests in the queue.", now.waiting
        yield "pool_queue_limit", "Requests that may queue.", now.queue
        yield "pool_hold", "1 while sandboxes cannot be started.", float(now.hold_reason is not None)
        yield "pool_cold_seconds", "For how long no sandbox has been ready.", now.cold_seconds
        yield "pool_generation", "Grows when idle sandboxes are replaced.", now.generation
        yield (
            "files_stored_bytes",
            "Bytes of files and outcomes, as the quota counts.",
            self._stored_bytes(),
        )
