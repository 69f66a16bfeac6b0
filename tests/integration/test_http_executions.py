"""`X-Execution-Id` and `DELETE /v1/executions/{id}`."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.http_service import Running, events
from tests.integration.waiting_runs import Call, let_end, post, said, until_begun, waiting_backend

BATCH, STREAM = "/v1/execute", "/v1/execute/stream"


@pytest.fixture
def service(make_service: Any) -> Running:
    found: Running = make_service(waiting_backend())
    return found


@pytest.fixture
def name() -> str:
    return str(uuid.uuid4())


def cancel(service: Running, name: str) -> int:
    return service.client.delete(f"/v1/executions/{name}").status_code


def test_the_id_is_the_callers_in_header_and_body(make_service: Any, name: str) -> None:
    service = make_service()
    batch = post(service, id=name.upper())
    assert (batch.headers["x-execution-id"], batch.json()["execution_id"]) == (name, name)
    stream = post(service, STREAM, id=name)
    assert (stream.headers["x-execution-id"], events(stream)[-1][1]["execution_id"]) == (name, name)


def test_without_one_an_id_is_made(make_service: Any) -> None:
    service = make_service()
    first, second = (post(service) for _ in range(2))
    assert first.headers["x-execution-id"] == first.json()["execution_id"] != second.headers["x-execution-id"]


@pytest.mark.parametrize("path", [BATCH, STREAM])
def test_what_is_no_uuid_is_422(make_service: Any, path: str) -> None:
    assert said(post(make_service(), path, id="mine")) == (422, "unprocessable", False)


def test_a_batch_caller_is_told_that_its_run_was_cancelled_and_the_sandbox_is_gone(service: Running, name: str) -> None:
    call = Call(service, id=name)
    until_begun(service)
    assert cancel(service, name) == 204
    assert said(call.answer) == (409, "execution_cancelled", False)
    assert call.answer.headers["x-execution-id"] == name
    until_begun(service, 0)
    service.until_idle()
    assert 'sandboxes_retired_total{reason="cancelled"} 1.0' in service.client.get("/metrics").text
    assert service.client.get("/v1/files").json() == {"files": []}
    assert cancel(service, name) == 404


def test_a_stream_that_was_cancelled_ends_with_an_error_event(service: Running, name: str) -> None:
    call = Call(service, STREAM, id=name)
    until_begun(service)
    assert cancel(service, name) == 204
    found = events(call.answer)
    assert found[0] == ("output", {"stream": "stdout", "data": "first\n"})
    assert [kind for kind, _ in found] == ["output", "error"]
    assert (found[-1][1]["code"], found[-1][1]["retryable"]) == ("execution_cancelled", False)
    service.until_idle()


@pytest.mark.parametrize("path", [BATCH, STREAM])
def test_who_waits_for_a_sandbox_can_be_cancelled_and_is_told_by_a_status(
    make_service: Any, name: str, path: str
) -> None:
    service = make_service(waiting_backend(), pool_size=1, max_in_flight=1)
    running = Call(service)
    until_begun(service)
    queued = Call(service, path, id=name)
    service.until(lambda: service.service.pool.snapshot().waiting == 1)
    assert cancel(service, name) == 204
    assert said(queued.answer) == (409, "execution_cancelled", False)
    assert service.snapshot().waiting == 0
    let_end(service)
    assert running.answer.status_code == 200


def test_a_running_id_used_again_is_409_and_the_first_goes_on(service: Running, name: str) -> None:
    call = Call(service, id=name)
    until_begun(service)
    for path in (BATCH, STREAM):
        assert said(post(service, path, id=name)) == (409, "execution_exists", False)
    let_end(service)
    assert call.answer.json()["exit_code"] == 0


@pytest.mark.parametrize("unknown", ["mine", str(uuid.uuid4()), "..%2Ffiles"])
def test_what_does_not_run_here_is_404(make_service: Any, unknown: str) -> None:
    answer = make_service().client.delete(f"/v1/executions/{unknown}")
    assert answer.status_code == 404
