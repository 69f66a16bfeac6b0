"""`Idempotency-Key` over HTTP, with one replica and with two."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.quotas import Kind
from tests.http_service import Running, events
from tests.integration.waiting_runs import (
    BODY,
    Call,
    began,
    let_end,
    post,
    said,
    until_begun,
    waiters,
    waiting_backend,
)

BATCH, STREAM = "/v1/execute", "/v1/execute/stream"
WRITES = {"code": "print('hi')\nf = open('made.txt', 'w'); f.write('made'); f.close()"}


@pytest.fixture
def waiting(make_service: Any) -> Running:
    found: Running = make_service(waiting_backend())
    return found


def in_flight(service: Running) -> int:
    return service.snapshot().in_flight


def test_the_same_key_and_body_get_the_same_json_and_run_once(make_service: Any) -> None:
    service = make_service()
    first, second = (post(service, body=WRITES, key="k") for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
    assert len(service.client.get("/v1/files").json()["files"]) == 1
    assert second.headers["x-execution-id"] == first.json()["execution_id"]


def test_a_stream_is_replayed_and_a_batch_and_a_stream_share_a_key(make_service: Any) -> None:
    service = make_service()
    batch = post(service, body=WRITES, key="k").json()
    streams = [events(post(service, STREAM, body=WRITES, key="k")) for _ in range(2)]
    assert (
        streams[0]
        == streams[1]
        == [
            ("output", {"stream": "stdout", "data": "hi\n"}),
            ("result", {name: value for name, value in batch.items() if name not in ("stdout", "stderr")}),
        ]
    )


@pytest.mark.parametrize("path", [BATCH, STREAM])
def test_another_body_is_422(make_service: Any, path: str) -> None:
    service = make_service()
    post(service, key="k")
    assert said(post(service, path, body={"code": "print(2)"}, key="k")) == (422, "key_reused", False)


@pytest.mark.parametrize("path", [BATCH, STREAM])
@pytest.mark.parametrize("key", ["x" * 256, "", "a\tb"])
def test_a_key_of_another_form_is_422(make_service: Any, path: str, key: str) -> None:
    assert said(post(make_service(), path, key=key)) == (422, "unprocessable", False)


def test_without_a_key_each_request_runs(make_service: Any) -> None:
    service = make_service()
    first, second = (post(service).json()["execution_id"] for _ in range(2))
    assert first != second
    assert service.service.store.storage.folder is not None
    assert list((service.service.store.storage.folder / "claims").iterdir()) == []


def test_who_asks_while_it_runs_joins_it_by_batch_or_by_stream(waiting: Running) -> None:
    calls = [Call(waiting, path, key="k") for path in (BATCH, STREAM, BATCH)]
    waiting.until(lambda: waiters(waiting) == 3)
    until_begun(waiting)
    let_end(waiting)
    batch, stream, again = (call.answer for call in calls)
    assert batch.content == again.content
    assert (batch.json()["stdout"], batch.json()["stderr"]) == ("first\n", "second\n")
    assert [kind for kind, _ in events(stream)] == ["output", "output", "result"]
    assert events(stream)[-1][1]["execution_id"] == batch.json()["execution_id"]
    waiting.until_idle()
    assert "executions_completed_total" in waiting.client.get("/metrics").text
    assert 'completed_total{operation="execute",outcome="ok"} 1.0' in _completed(waiting)


def _completed(service: Running) -> str:
    lines = service.client.get("/metrics").text.splitlines()
    # Whichever of the callers came first gave the run its label.
    found = [line for line in lines if "executions_completed_total{" in line]
    assert len(found) == 1
    return found[0].replace("execute_stream", "execute")


@pytest.mark.parametrize("path", [BATCH, STREAM])
def test_a_joined_run_goes_on_when_its_first_caller_leaves(waiting: Running, path: str) -> None:
    with closing(httpx.Client(base_url=waiting.url, timeout=20, trust_env=False)) as leaving:
        with leaving.stream("POST", STREAM, json=BODY, headers={"Idempotency-Key": "k"}):
            until_begun(waiting)
            call = Call(waiting, path, key="k")
            waiting.until(lambda: waiters(waiting) == 2)
        waiting.until(lambda: waiters(waiting) == 1)
    assert in_flight(waiting) == 1
    let_end(waiting)
    assert "first" in call.answer.text
    assert call.answer.status_code == 200


def test_when_its_last_caller_leaves_it_is_cancelled_and_says_so_to_who_asks_again(waiting: Running) -> None:
    leaving = httpx.Client(base_url=waiting.url, timeout=20, trust_env=False)
    with closing(leaving), leaving.stream("POST", STREAM, json=BODY, headers={"Idempotency-Key": "k"}):
        until_begun(waiting)
    waiting.until_idle()
    assert said(post(waiting, key="k")) == (409, "execution_cancelled", False)
    assert [kind for kind, _ in events(post(waiting, STREAM, key="k"))] == ["output", "error"]
    assert waiting.client.get("/v1/files").json() == {"files": []}


def test_a_shared_run_is_cancelled_by_its_id_for_all_who_wait(waiting: Running) -> None:
    name = str(uuid.uuid4())
    calls = [Call(waiting, key="k", id=name), Call(waiting, STREAM, key="k", id=name)]
    waiting.until(lambda: waiters(waiting) == 2)
    until_begun(waiting)
    assert waiting.client.delete(f"/v1/executions/{name}").status_code == 204
    assert said(calls[0].answer) == (409, "execution_cancelled", False)
    assert events(calls[1].answer)[-1][1]["code"] == "execution_cancelled"
    assert said(post(waiting, key="k")) == (409, "execution_cancelled", False)


def test_a_replay_may_carry_the_id_of_the_first_try(make_service: Any) -> None:
    service, name = make_service(), str(uuid.uuid4())
    assert [post(service, key="k", id=name).json()["execution_id"] for _ in range(2)] == [name, name]


@pytest.mark.parametrize("path", [BATCH, STREAM])
def test_what_is_refused_gives_its_key_up(make_service: Any, path: str) -> None:
    service = make_service(waiting_backend(), pool_size=1, max_in_flight=1, queue=0)
    running = Call(service)
    until_begun(service)
    assert said(post(service, path, key="k"))[:2] == (429, "pool_saturated")
    let_end(service)
    assert running.answer.status_code == 200
    service.until_idle()
    again = Call(service, path, key="k")
    until_begun(service)
    let_end(service)
    assert "execution_id" in again.answer.text


def test_a_missing_input_is_404_gives_the_key_up_and_is_not_looked_for_in_a_replay(make_service: Any) -> None:
    service = make_service()
    missing: dict[str, Any] = {"code": "print(1)", "files": [{"path": "a", "file_id": str(uuid.uuid4())}]}
    assert said(post(service, body=missing, key="k")) == (404, "file_not_found", False)
    there: dict[str, Any] = {**missing, "files": [{"path": "a", "file_id": service.upload(b"x")}]}
    first = post(service, body=there, key="k")
    service.client.delete(f"/v1/files/{there['files'][0]['file_id']}")
    assert post(service, body=there, key="k").content == first.content


def test_a_replay_names_a_file_that_was_deleted_since(make_service: Any) -> None:
    service = make_service()
    first = post(service, body=WRITES, key="k")
    path = f"/v1/files/{first.json()['files'][0]['file_id']}"
    assert service.client.delete(path).status_code == 204
    assert post(service, body=WRITES, key="k").content == first.content
    assert service.client.get(path).status_code == 404


def test_claims_are_no_files_of_anybodys(make_service: Any) -> None:
    service = make_service()
    post(service, key="k")
    folder = service.service.store.storage.folder
    (claim,), (outcome,) = list((folder / "claims").iterdir()), list((folder / "outcomes").iterdir())
    assert service.client.get("/v1/files").json() == {"files": []}
    for name in (claim.name, outcome.name, f"..%2Fclaims%2F{claim.name}", f"..%2Foutcomes%2F{outcome.name}"):
        assert service.client.get(f"/v1/files/{name}").status_code == 404
        assert service.client.delete(f"/v1/files/{name}").status_code == 404
    assert service.service.store.quotas.total(Kind.FILES) == 0
    assert (claim.exists(), outcome.exists()) == (True, True)


@pytest.mark.parametrize("path", [BATCH, STREAM])
def test_another_replica_says_409_while_it_runs_and_the_outcome_afterwards(
    make_service: Any, tmp_path: Path, path: str
) -> None:
    one, other = (make_service(waiting_backend(), file_storage_dir=str(tmp_path / "files")) for _ in range(2))
    call = Call(one, key="k")
    until_begun(one)
    busy = post(other, path, key="k")
    assert said(busy) == (409, "key_in_use", True)
    assert int(busy.headers["retry-after"]) >= 1
    let_end(one)
    assert call.answer.json()["execution_id"] in post(other, path, key="k").text
    assert began(other) == []


def test_a_restarted_service_says_that_the_outcome_is_unknown(make_service: Any, tmp_path: Path) -> None:
    one, other = (make_service(file_storage_dir=str(tmp_path / "files")) for _ in range(2))
    post(one, key="k")
    (outcome,) = (tmp_path / "files" / "outcomes").iterdir()
    outcome.unlink()
    later = other.service.keyed.claims.clock() + 10_000
    other.service.keyed.claims.clock = lambda: later
    assert said(post(other, key="k")) == (409, "outcome_unknown", False)
    assert said(post(one, key="k")) == (409, "outcome_unknown", False)
