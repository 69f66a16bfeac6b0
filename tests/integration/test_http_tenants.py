"""Several tenants of one service: their files, their limits, and what is counted of each."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.quotas import ENTRY_BYTES
from broker.tenants import Tenant
from tests.fakes.backend import FakeBackend
from tests.fakes.supervisor import FakeSupervisor, shut
from tests.http_service import Running
from tests.tenants import client_of, key_file


@pytest.fixture
def start(make_service: Any, tmp_path: Path) -> Iterator[Callable[..., tuple[Running, httpx.Client, httpx.Client]]]:
    """A service and a client for each of its two tenants: `start(ana={limits}, backend=…, **settings)`."""
    with ExitStack() as stack:

        def start(
            ana: dict[str, Any] | None = None, backend: Any = "fake", **settings: Any
        ) -> tuple[Running, httpx.Client, httpx.Client]:
            service = make_service(backend, keys_file=key_file(tmp_path, ana=ana), **settings)
            both = [stack.enter_context(client_of(service.url, name)) for name in ("ana", "bob")]
            return service, both[0], both[1]

        yield start


def upload(client: httpx.Client, data: bytes = b"x") -> str:
    answer = client.post("/v1/files", files={"file": ("a.txt", data)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["file_id"])


def execute(client: httpx.Client, code: str = "print(1)", **fields: Any) -> httpx.Response:
    return client.post("/v1/execute", json={"code": code, **fields})


# --- files ---


def test_anothers_file_is_not_found_in_the_words_of_one_that_never_was(start: Any) -> None:
    _, ana, bob = start()
    theirs, never = upload(ana), str(uuid.uuid4())
    for file_id in (theirs, never):
        for method in ("GET", "DELETE", "HEAD"):
            answer = bob.request(method, f"/v1/files/{file_id}")
            assert answer.status_code == 404
            assert method == "HEAD" or answer.json()["detail"] == f"File with ID '{file_id}' not found"
        answer = execute(bob, files=[{"path": "in.txt", "file_id": file_id}])
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"File with ID '{file_id}' not found for path 'in.txt'."
    assert ana.get(f"/v1/files/{theirs}").content == b"x"


def test_a_stream_does_not_find_anothers_file_either(start: Any) -> None:
    _, ana, bob = start()
    body = {"code": "print(1)", "files": [{"path": "in.txt", "file_id": upload(ana)}]}
    assert bob.post("/v1/execute/stream", json=body).status_code == 404


def test_a_tenant_lists_its_own_files(start: Any) -> None:
    _, ana, bob = start()
    mine, theirs = upload(ana), upload(bob)
    listed = [[each["file_id"] for each in client.get("/v1/files").json()["files"]] for client in (ana, bob)]
    assert listed == [[mine], [theirs]]


def test_what_a_program_wrote_is_its_tenants(start: Any) -> None:
    _, ana, bob = start()
    [made] = execute(ana, "with open('o.txt', 'w') as f: f.write('mine')").json()["files"]
    assert ana.get(f"/v1/files/{made['file_id']}").content == b"mine"
    assert bob.get(f"/v1/files/{made['file_id']}").status_code == 404


def test_files_from_before_there_were_keys_are_nobodys(start: Any, make_service: Any, tmp_path: Path) -> None:
    folder = str(tmp_path / "shared")
    before = make_service(file_storage_dir=folder)
    file_id = before.upload(b"old")
    _, ana, _ = start(file_storage_dir=folder)
    assert ana.get(f"/v1/files/{file_id}").status_code == 404
    assert ana.get("/v1/files").json() == {"files": []}
    assert before.client.get(f"/v1/files/{file_id}").content == b"old"


def test_files_of_a_tenant_are_not_found_once_there_are_no_keys(start: Any, make_service: Any, tmp_path: Path) -> None:
    folder = str(tmp_path / "shared")
    _, ana, _ = start(file_storage_dir=folder)
    file_id = upload(ana)
    assert make_service(file_storage_dir=folder).client.get(f"/v1/files/{file_id}").status_code == 404


def test_a_tenants_quota_is_its_own(start: Any) -> None:
    _, ana, bob = start(ana={"file_quota_mb": 1})
    kept = upload(ana, b"x" * 2**19)
    assert upload(ana, b"") != kept
    refused = ana.post("/v1/files", files={"file": ("a", b"x" * 2**20)})
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert "This tenant's files" in refused.json()["detail"]
    upload(bob, b"x" * 2**20)
    ana.delete(f"/v1/files/{kept}")
    upload(ana, b"x" * (2**20 - 2 * ENTRY_BYTES))


def test_what_keyed_runs_print_is_their_tenants_to_pay_for(start: Any) -> None:
    _, ana, bob = start(ana={"file_quota_mb": 1})
    program = {"code": "print('x' * 900_000)"}
    answers = [ana.post("/v1/execute", json=program, headers={"Idempotency-Key": key}) for key in ("1", "2", "3", "1")]
    assert [each.status_code for each in answers] == [200, 200, 507, 200]
    assert "This tenant's files" in answers[2].json()["detail"]
    assert answers[3].content == answers[0].content
    refused = ana.post("/v1/files", files={"file": ("a", b"x" * 2**17)})
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert bob.post("/v1/execute", json=program, headers={"Idempotency-Key": "1"}).status_code == 200
    assert execute(ana).status_code == 200, "without a key nothing is kept"


# --- limits ---


def test_who_starts_more_than_its_rate_is_429_with_the_seconds_until_the_next_token(start: Any) -> None:
    service, ana, bob = start(ana={"runs_per_minute": 6})
    assert execute(ana).status_code == 200
    for path in ("/v1/execute", "/v1/execute/stream"):
        refused = ana.post(path, json={"code": "print(1)"})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.json()["retryable"]
        assert 5 <= int(refused.headers["retry-after"]) <= 10
    assert execute(bob).status_code == 200
    assert service.snapshot().runs == 2


@contextmanager
def held_runs(service: Running, backend: FakeBackend, client: httpx.Client, count: int) -> Iterator[None]:
    """So many runs that go on until the end; some of them may be waiting."""
    asking = [threading.Thread(target=execute, args=(client,)) for _ in range(count)]
    now = service.service.pool.snapshot
    held = service.snapshot().in_flight + service.snapshot().waiting + count
    for each in asking:
        each.start()
    service.until(lambda: now().in_flight + now().waiting >= held)
    try:
        yield
    finally:
        while any(each.is_alive() for each in asking):
            service.call(open_gates, backend)


async def open_gates(backend: FakeBackend) -> None:
    for sandbox in list(backend.live.values()):
        sandbox.supervisor.finish()


def gated() -> FakeBackend:
    backend = FakeBackend(start=shut)
    backend.next_starts.append(FakeSupervisor)
    return backend


def test_runs_above_a_tenants_concurrency_wait_and_others_do_not(start: Any) -> None:
    backend = gated()
    service, ana, bob = start(ana={"concurrency": 1}, backend=backend, pool_size=4)
    with held_runs(service, backend, ana, 2):
        assert (service.snapshot().in_flight, service.snapshot().waiting) == (1, 1)
        with held_runs(service, backend, bob, 1):
            assert (service.snapshot().in_flight, service.snapshot().waiting) == (2, 1)


def test_requests_above_a_tenants_part_of_the_queue_are_429(start: Any) -> None:
    backend = gated()
    service, ana, _ = start(ana={"concurrency": 1, "queue": 1}, backend=backend, pool_size=4)
    with held_runs(service, backend, ana, 2):
        refused = execute(ana)
        assert (refused.status_code, refused.json()["code"]) == (429, "pool_saturated")
        assert refused.json()["detail"].startswith("this tenant's part of the queue is full: 1 waiting, limit 1")
        assert int(refused.headers["retry-after"]) >= 1


def test_one_tenants_bodies_leave_room_for_anothers(start: Any) -> None:
    service, ana, bob = start()
    service.service.bodies.limit_bytes = 4000
    with service.service.request("execute", Tenant("ana")) as held:
        held.take(1500)
        refused = execute(ana, "#" * 600)
        assert (refused.status_code, refused.json()["code"]) == (503, "bodies_full")
        assert "this tenant's requests" in refused.json()["detail"]
        assert execute(bob, "#" * 600).status_code == 200
    assert execute(ana, "#" * 600).status_code == 200


# --- what is counted ---


def test_each_tenant_is_counted(start: Any) -> None:
    _, ana, bob = start(ana={"runs_per_minute": 6})
    execute(ana)
    execute(ana)
    upload(bob, b"xyz")
    httpx.get(f"{ana.base_url}/v1/files", trust_env=False)
    text = bob.get("/metrics").text
    assert 'tenant="bob"' in text
    assert 'tenant="ana"' not in text
    text += ana.get("/metrics").text
    for line in (
        'code_interpreter_tenant_runs_total{outcome="ok",tenant="ana"} 1.0',
        'code_interpreter_tenant_refusals_total{reason="rate_limited",tenant="ana"} 1.0',
        'code_interpreter_tenant_runs_active{tenant="ana"} 0.0',
        'code_interpreter_tenant_wait_seconds_count{tenant="ana"} 1.0',
        'code_interpreter_tenant_files_bytes{tenant="bob"} 65539.0',
        "code_interpreter_unauthenticated_total 1.0",
    ):
        assert line in text, line


def test_an_operators_key_reads_the_metrics_of_all(start: Any) -> None:
    _, ana, bob = start(ana={"all_metrics": True})
    execute(bob)
    assert 'tenant="bob"' in ana.get("/metrics").text
