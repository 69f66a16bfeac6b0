"""Sandboxes that cannot be started: an operator is told why wherever one looks, and what runs goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog

from pool import SandboxStartFailed
from tests.fakes.backend import FakeBackend
from tests.fakes.supervisor import FakeSupervisor
from tests.http_service import Running, running

WHY = "exceeded quota: pods=8"


def no_quota() -> FakeSupervisor:
    raise SandboxStartFailed(WHY, reason="quota")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Running]:
    """A service that has a warm sandbox, and will have no other."""
    backend = FakeBackend()
    with running(tmp_path, backend, pool_size=1) as found:
        found.until(lambda: found.service.pool.snapshot().slots["ready"] == 1)
        backend.start = no_quota
        yield found


def test_a_hold_is_told_in_ready_in_a_metric_and_in_the_log(held: Running) -> None:
    with structlog.testing.capture_logs() as logs:
        assert held.execute("print(1)").json()["stdout"] == "1\n"
        held.until(lambda: held.service.pool.snapshot().hold_reason == "quota")
        ready, metrics = held.client.get("/ready"), held.client.get("/metrics").text

    assert ready.status_code == 200
    assert ready.json()["hold"].endswith(WHY)
    assert "code_interpreter_pool_hold 1.0" in metrics
    assert 'code_interpreter_sandbox_start_failures_total{reason="quota"}' in metrics
    (told, *_) = [each for each in logs if each["event"] == "sandbox.start_failed"]
    assert told["reason"] == "quota"
    assert told["text"].endswith(WHY)


def test_a_hold_that_lasts_is_an_error_in_health(held: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.routes.COLD_SECONDS", 0.0)
    held.execute("print(1)")
    held.until(lambda: held.service.pool.snapshot().hold_reason == "quota")

    health = held.client.get("/health").json()

    assert health["status"] == "error"
    assert health["message"].endswith(WHY)


def test_a_session_that_cannot_be_opened_is_told_beside_runs_that_can(
    held: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.session_routes.START_SECONDS", 0.0)
    settings = held.service.settings
    monkeypatch.setattr(held.service, "settings", msgspec.structs.replace(settings, execution_queue_timeout_sec=0.5))
    with structlog.testing.capture_logs() as logs:
        refused = held.client.post("/v1/sessions", json={})
        health = held.client.get("/health").json()

    assert refused.status_code == 503
    assert health["status"] == "ok"
    assert health["message"].startswith("Sessions: no sandbox could be started (quota)")
    assert "sandbox.start_failed" in [each["event"] for each in logs]
    assert held.execute("print(1)").json()["stdout"] == "1\n"
