"""Labels of tenants have an end."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from broker.tenant_metrics import MOST_LABELS, OTHER, OneTenants, TenantFilesCollector, TenantLabels, TenantMetrics


def test_the_first_tenants_keep_a_label_and_the_rest_share_one() -> None:
    labels = TenantLabels(most=2)
    assert [labels.of(each) for each in "abcad"] == ["a", "b", OTHER, "a", OTHER]


def test_series_have_an_end_however_many_tenants_come() -> None:
    registry = CollectorRegistry()
    metrics = TenantMetrics(registry, prefix="x", buckets=(1.0,))
    for number in range(MOST_LABELS * 3):
        with metrics.run(f"tenant-{number}", lambda: "ok", wait_seconds=0.0):
            pass
    runs = next(each for each in registry.collect() if each.name == "x_tenant_runs")
    counts = [each.value for each in runs.samples if each.name == "x_tenant_runs_total"]
    assert (len(counts), sum(counts)) == (MOST_LABELS + 1, MOST_LABELS * 3)


def test_without_keys_nothing_is_counted() -> None:
    registry = CollectorRegistry()
    metrics = TenantMetrics(registry, prefix="x", buckets=(1.0,))
    with metrics.run("", lambda: "ok", wait_seconds=0.0):
        metrics.refused("", "rate_limited")
    assert [sample for each in registry.collect() for sample in each.samples if sample.labels] == []


def test_a_tenant_sees_what_is_its_own_or_nobodys_and_never_the_sum_of_the_rest() -> None:
    registry = CollectorRegistry()
    metrics = TenantMetrics(registry, prefix="x", buckets=(1.0,))
    metrics.unauthenticated()
    for tenant in ["a", *(f"tenant-{number}" for number in range(MOST_LABELS)), OTHER]:
        metrics.refused(tenant, "rate_limited")
    shown = {tenant: text_for(registry, tenant) for tenant in ("a", "b", OTHER)}
    assert all("x_unauthenticated_total 1.0" in each for each in shown.values())
    assert [each.count("tenant=") for each in shown.values()] == [1, 0, 0]
    assert 'tenant="a"' in shown["a"]


def text_for(registry: CollectorRegistry, tenant: str) -> str:
    return generate_latest(OneTenants(registry, tenant)).decode()


def test_files_of_those_without_a_label_are_added_up() -> None:
    labels = TenantLabels(most=1)
    collector = TenantFilesCollector(lambda: {"": 9, "a": 1, "b": 2, "c": 3}, labels, prefix="x")
    [family] = collector.collect()
    assert {each.labels["tenant"]: each.value for each in family.samples} == {"a": 1, OTHER: 5}
