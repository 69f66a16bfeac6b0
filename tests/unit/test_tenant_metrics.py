"""Labels of tenants have an end."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from broker.tenant_metrics import MOST_LABELS, OTHER, TenantFilesCollector, TenantLabels, TenantMetrics


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


def test_files_of_those_without_a_label_are_added_up() -> None:
    labels = TenantLabels(most=1)
    collector = TenantFilesCollector(lambda: {"": 9, "a": 1, "b": 2, "c": 3}, labels, prefix="x")
    [family] = collector.collect()
    assert {each.labels["tenant"]: each.value for each in family.samples} == {"a": 1, OTHER: 5}
