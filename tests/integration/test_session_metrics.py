"""What is counted of sessions, for operators and of each tenant."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pool import session
from tests.http_service import Running, running
from tests.tenants import client_of, key_file

PREFIX = "code_interpreter_"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("counted")
    keys = key_file(folder, ana={"sessions": 2})
    with running(folder, "local", keys_file=keys, max_sessions=4) as found:
        yield found


@pytest.fixture(scope="module")
def ana(service: Running) -> Iterator[httpx.Client]:
    with client_of(service.url, "ana") as client:
        yield client


def counted(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    pairs = (line.removeprefix(PREFIX).rsplit(" ", 1) for line in lines if line.startswith(PREFIX))
    return {name: float(value) for name, value in pairs if name.startswith(("session", "tenant_session"))}


@contextmanager
def adds(client: httpx.Client, **expected: float) -> Iterator[None]:
    """Of these names, as `sessions_ended_total__lost` for a label."""
    before = counted(client)
    yield
    after = counted(client)
    changes = {name: after[name] - before.get(name, 0.0) for name in after if after[name] != before.get(name, 0.0)}
    changes = {name: change for name, change in changes.items() if "_call_seconds" not in name}
    assert changes == {_sample(name): change for name, change in expected.items()}


def _sample(name: str) -> str:
    metric, _, label = name.partition("__")
    labels = {"reason": label} if metric == "sessions_ended_total" else {"outcome": label} if label else {}
    labels |= {"tenant": "ana"} if metric.startswith("tenant_") else {}
    shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{metric}{{{shown}}}" if shown else metric


def opened(client: httpx.Client, ttl_seconds: int = 900) -> str:
    answer = client.post("/v1/sessions", json={"ttl_seconds": ttl_seconds})
    assert answer.status_code == 201, answer.text
    session_id: str = answer.json()["session_id"]
    return session_id


def none_open(service: Running) -> None:
    open_now = service.service.metrics.registry.get_sample_value
    service.until(lambda: open_now(f"{PREFIX}sessions_open") == 0)


def test_what_is_open_and_may_be(service: Running, ana: httpx.Client) -> None:
    with adds(ana, sessions_open=1, sessions_opened_total=1, tenant_sessions_open=1):
        session_id = opened(ana)
    assert counted(ana)["sessions_limit"] == 4
    with adds(ana, sessions_open=-1, sessions_ended_total__closed=1, tenant_sessions_open=-1):
        ana.delete(f"/v1/sessions/{session_id}")
        none_open(service)


def test_one_whose_time_is_up_has_expired(service: Running, ana: httpx.Client) -> None:
    with adds(ana, sessions_opened_total=1, sessions_ended_total__expired=1):
        opened(ana, ttl_seconds=1)
        none_open(service)


def test_one_whose_sandbox_is_gone_is_lost(service: Running, ana: httpx.Client) -> None:
    with adds(ana, sessions_opened_total=1, sessions_ended_total__lost=1):
        opened(ana)
        (sandbox,) = [each for each in service.backend._live if each.name.startswith("session-")]
        signal.pidfd_send_signal(sandbox._handle, signal.SIGKILL)
        none_open(service)


def leave_in_the_middle(client: httpx.Client, path: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post(path, json={"cmd": "sleep 60"}, timeout=0.3)


def test_calls_are_counted_by_how_they_end(
    service: Running, ana: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = opened(ana)
    path = f"/v1/sessions/{session_id}/bash"
    with adds(ana, session_calls_total__ok=1, tenant_session_calls_total__ok=1):
        ana.post(path, json={"cmd": "false"})
    with adds(ana, session_calls_total__timed_out=1, tenant_session_calls_total__timed_out=1):
        ana.post(path, json={"cmd": "sleep 60", "timeout_ms": 50})
    with adds(ana, session_calls_total__cancelled=1, tenant_session_calls_total__cancelled=1):
        leave_in_the_middle(ana, path)
        service.until(lambda: not service.service.active)
    with adds(ana):
        ana.post("/v1/sessions/none/bash", json={"cmd": "true"})
        with monkeypatch.context() as patch:
            patch.setattr(session, "MOST_WAITING", 0)
            assert ana.post(path, json={"cmd": "true"}).status_code == 429
    assert counted(ana)["session_call_seconds_count"] == 3
    ana.delete(f"/v1/sessions/{session_id}")
    none_open(service)


def test_refusals_of_sessions_are_counted_of_their_tenant(service: Running, ana: httpx.Client) -> None:
    held = [opened(ana), opened(ana)]
    assert ana.post("/v1/sessions", json={}).status_code == 429
    assert 'tenant_refusals_total{reason="sessions_full",tenant="ana"} 1.0' in ana.get("/metrics").text
    for session_id in held:
        ana.delete(f"/v1/sessions/{session_id}")
    none_open(service)


def test_operations_have_the_names_that_dashboards_of_the_upstream_know(service: Running, ana: httpx.Client) -> None:
    session_id = opened(ana)
    ana.post(f"/v1/sessions/{session_id}/bash", json={"cmd": "true"})
    ana.post(f"/v1/sessions/{session_id}/bash", json={"cmd": "sleep 100", "timeout_ms": 100})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "MOST_WAITING", 0)
        ana.post(f"/v1/sessions/{session_id}/bash", json={"cmd": "true"})
    ana.delete(f"/v1/sessions/{session_id}")

    held = [opened(ana), opened(ana)]
    assert ana.post("/v1/sessions", json={}).status_code == 429
    for session_id in held:
        ana.delete(f"/v1/sessions/{session_id}")

    text = service.call(service.service.metrics.text).decode()

    for operation, outcome in (("session_create", "ok"), ("session_bash", "ok"), ("session_bash", "timed_out")):
        assert f'executions_completed_total{{operation="{operation}",outcome="{outcome}"}}' in text
    assert 'executions_rejected_total{operation="session_bash",reason="pool_saturated",status="429"}' in text
    assert 'executions_active{operation="session_bash"} 0.0' in text
    assert 'outcome="error"' not in text, "what was refused is no error of the service"
