"""What machines are told. Pure."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec
import pytest

from broker.metrics import MAX_REASONS, Metrics, PoolCollector
from broker.routes import health_body, not_ready
from pool import Isolation, PoolClosed, Snapshot

WELL = Snapshot(
    slots={"starting": 0, "ready": 2, "leased": 1},
    size=2,
    limit=20,
    waiting=3,
    queue=256,
    in_flight=1,
    max_in_flight=64,
    hold_reason=None,
    hold_text=None,
    has_been_warm=True,
    cold_seconds=0.0,
    retry_after_seconds=1.0,
    generation=1,
    runs=5,
    closing=False,
)
HELD = {"hold_reason": "quota", "hold_text": "no quota left"}


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({}, "ok", None),
        ({"cold_seconds": 3600.0}, "ok", None),
        ({**HELD, "cold_seconds": 59.0}, "ok", None),
        ({**HELD, "cold_seconds": 61.0}, "error", "no quota left"),
        ({"closing": True}, "ok", None),
    ],
)
def test_health_is_ill_only_when_cold_for_a_minute_and_held(changed: dict[str, Any], status: str, message: Any) -> None:
    body = health_body(msgspec.structs.replace(WELL, **changed), Isolation(level="full"), "local")
    assert (body["status"], body["message"], body["version"], body["isolation"]) == (status, message, "0.4.4", "full")


def test_trouble_with_the_keys_is_said_and_is_no_illness() -> None:
    body = health_body(WELL, Isolation(level="full"), "local", trouble="the keys from before still hold")
    assert (body["status"], body["message"]) == ("ok", "the keys from before still hold")
    held = msgspec.structs.replace(WELL, hold_reason="quota", hold_text="no quota left", cold_seconds=61.0)
    assert health_body(held, Isolation(level="full"), "local", trouble="keys")["message"] == "no quota left"


def test_the_network_is_isolated_unless_nothing_is() -> None:
    levels = ("full", "reduced", "none")
    found = [health_body(WELL, Isolation(level=level), "local")["network_isolation"] for level in levels]
    assert found == ["no_network", "no_network", "none"]


@pytest.mark.parametrize(
    ("changed", "leaving", "is_ready"),
    [
        ({}, False, True),
        ({**HELD, "cold_seconds": 100.0}, False, True),
        ({"has_been_warm": False}, False, False),
        ({}, True, False),
        ({"closing": True}, False, False),
    ],
)
def test_ready_is_no_opinion_on_a_hold(changed: dict[str, Any], leaving: bool, is_ready: bool) -> None:
    assert (not_ready(msgspec.structs.replace(WELL, **changed), leaving=leaving) is None) is is_ready


@pytest.fixture
def metrics() -> Metrics:
    found = Metrics(max_in_flight=64, version="0", backend="fake")
    found.registry.register(PoolCollector(lambda: WELL, lambda: 123))
    return found


def test_gauges_show_the_pool_as_it_is_when_asked(metrics: Metrics) -> None:
    text = metrics.text().decode()
    for line in (
        'code_interpreter_pool_slots{state="ready"} 2.0',
        "code_interpreter_pool_waiting 3.0",
        "code_interpreter_executions_limit 64.0",
        "code_interpreter_files_stored_bytes 123.0",
    ):
        assert line in text


OF_UPSTREAM = {
    "executions_active": ("operation",),
    "executions_limit": (),
    "executions_rejected": ("operation", "status", "reason"),
    "executions_completed": ("operation", "outcome"),
    "admission_wait_seconds": ("operation",),
    "execution_duration_seconds": ("operation",),
}


@pytest.mark.parametrize(("name", "labels"), OF_UPSTREAM.items())
def test_names_of_the_upstream_are_there_with_their_labels(name: str, labels: tuple[str, ...]) -> None:
    found = Metrics(max_in_flight=64, version="0", backend="fake")
    with found.execution("execute", "", queue_ms=1.0):
        found.rejected("execute", PoolClosed("closed"), "")
    (family,) = [each for each in found.registry.collect() if each.name == f"code_interpreter_{name}"]
    assert {tuple(sample.labels.keys() - {"le"}) for sample in family.samples} <= set(permutations(labels))
    assert family.samples


def test_names_follow_the_conventions(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        assert family.name.startswith("code_interpreter_")
        assert family.documentation.endswith((".", "."))
        assert family.type != "histogram" or family.name.endswith("_seconds")
        assert "_ms" not in family.name


def test_labels_have_an_end(metrics: Metrics) -> None:
    for number in range(MAX_REASONS * 3):
        metrics.sandbox_start_failed(reason=f"reason-{number}", text="")
        metrics.answered(method=f"M{number}", route="unmatched", status=404, seconds=0.1)
    text = metrics.text().decode()
    assert text.count("code_interpreter_sandbox_start_failures_total{") == MAX_REASONS + 1
    assert text.count("code_interpreter_http_requests_total{") == 1
