"""What each tenant does, under labels that have an end. Nothing is counted without keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MOST_LABELS = 50
"""Tenants with a label of their own; those that come later share `other`. Each costs some 25 series: more is a burden
for who stores them, fewer hides who floods."""
OTHER = "other"


class TenantLabels:
    """The first tenants seen keep their label for the life of the process, so that counters never change hands."""

    def __init__(self, most: int = MOST_LABELS) -> None:
        self._known: set[str] = set()
        self._most = most

    def of(self, tenant: str) -> str:
        if tenant not in self._known and len(self._known) >= self._most:
            return OTHER
        self._known.add(tenant)
        return tenant


class TenantMetrics:
    def __init__(self, registry: CollectorRegistry, *, prefix: str, buckets: tuple[float, ...]) -> None:
        self.labels = TenantLabels()
        self._runs = Counter(
            f"{prefix}_tenant_runs_total", "Runs: ok, timed_out, error.", ["tenant", "outcome"], registry=registry
        )
        self._refused = Counter(
            f"{prefix}_tenant_refusals_total",
            "Runs refused before they began.",
            ["tenant", "reason"],
            registry=registry,
        )
        self._active = Gauge(f"{prefix}_tenant_runs_active", "Runs that hold a sandbox.", ["tenant"], registry=registry)
        self._wait = Histogram(
            f"{prefix}_tenant_wait_seconds",
            "Wait of the runs that got a sandbox.",
            ["tenant"],
            buckets=buckets,
            registry=registry,
        )
        self._unauthenticated = Counter(
            f"{prefix}_unauthenticated_total", "Requests without a key that is known.", registry=registry
        )

    def unauthenticated(self) -> None:
        self._unauthenticated.inc()

    def refused(self, tenant: str, reason: str) -> None:
        if tenant:
            self._refused.labels(self.labels.of(tenant), reason).inc()

    @contextmanager
    def run(self, tenant: str, outcome: Callable[[], str], *, wait_seconds: float) -> Iterator[None]:
        """From the lease to its end, when `outcome` says how it ended."""
        if not tenant:
            yield
            return
        label = self.labels.of(tenant)
        self._wait.labels(label).observe(wait_seconds)
        self._active.labels(label).inc()
        try:
            yield
        finally:
            self._active.labels(label).dec()
            self._runs.labels(label, outcome()).inc()


class OneTenants(Collector):
    """What a tenant may see of a registry: its own series, and those that are no tenant's."""

    def __init__(self, registry: CollectorRegistry, tenant: str) -> None:
        self._registry = registry
        # SECURITY: a tenant that happens to be called so must not see the sum of those without a label.
        self._tenant = "" if tenant == OTHER else tenant

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [each for each in family.samples if self._may_see(each.labels)]
            yield family

    def _may_see(self, labels: Mapping[str, str]) -> bool:
        return labels.get("tenant", self._tenant) == self._tenant


class TenantFilesCollector(Collector):
    """What each tenant's files take, at the moment of the scrape."""

    def __init__(self, used_bytes: Callable[[], dict[str, int]], labels: TenantLabels, *, prefix: str) -> None:
        self._used_bytes = used_bytes
        self._labels = labels
        self._prefix = prefix

    def collect(self) -> Iterable[Metric]:
        by_label: dict[str, int] = {}
        for tenant, used in self._used_bytes().items():
            if tenant:
                label = self._labels.of(tenant)
                by_label[label] = by_label.get(label, 0) + used
        family = GaugeMetricFamily(
            f"{self._prefix}_tenant_files_bytes",
            "Bytes of a tenant's files and outcomes, as its quota counts them.",
            labels=["tenant"],
        )
        for label, used in sorted(by_label.items()):
            family.add_metric([label], used)
        yield family
