"""How each answer of the API is brought about: a service, and a request, after which it must be given."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import msgspec
import obstore

from broker import body, connection, session_routes
from broker.claims import Claims, claim_name
from broker.digest import digest
from broker.quotas import Kind
from broker.validation import execute_request
from pool import PoolTimeout, session
from sandbox_runtime import wire
from tests.fakes.backend import FakeBackend
from tests.fakes.faults import (
    EndsAtSession,
    EndsAtShell,
    EndsWithoutAnOutcome,
    LiesAtSession,
    LiesAtShell,
    SpeaksGarbage,
)
from tests.fakes.supervisor import FakeSupervisor
from tests.http_service import Running, faulty
from tests.integration.scenes import BODIES, NEVER, Said, Scene, said
from tests.integration.waiting_runs import Call, let_end, until_begun, waiting_backend
from tests.tenants import key_file


def good(scene: Scene) -> int:
    """The status of a request in which nothing is wrong."""
    if scene.name == "cancelExecution":
        service = scene.make(waiting_backend())
        cancelled = Call(service, id=NEVER)
        until_begun(service)
        answer = scene.send(service)
        assert cancelled.answer.status_code == 409
        return answer.status_code
    service = scene.make()
    return scene.send(service, id=scene.something(service)).status_code


# --- before it is known what is asked -------------------------------------------------------


def two_hosts(scene: Scene) -> Said:
    return scene.raw(scene.shared, "Host: localhost\r\n\r\n")


def half_a_head(scene: Scene) -> Said:
    scene.patch.setattr(connection, "HEAD_SECONDS", 0.2)
    return scene.raw(scene.shared, "X: y")


def a_long_head(scene: Scene) -> Said:
    return scene.raw(scene.shared, "X: " + "x" * connection.MAX_HEAD_BYTES)


def no_key(scene: Scene) -> Said:
    return said(scene.send(scene.make(keys_file=key_file(scene.folder))))


def a_foreign_host(scene: Scene) -> Said:
    return said(scene.send(scene.shared, headers={"Host": "evil.example"}))


BROKEN = {
    "health": ("pool", "snapshot"),
    "ready": ("pool", "snapshot"),
    "metrics": ("metrics", "text"),
    "cancelExecution": ("executions", "cancel"),
    "closeSession": ("sessions", "close"),
}


def a_bug(scene: Scene) -> Said:
    service = scene.shared
    files = scene.each.tag == "files"
    part, function = BROKEN.get(scene.name, ("", "files" if files else "request"))
    owner = getattr(service.service, part) if part else service.service
    with scene.patch.context() as patch:
        patch.setattr(owner, function, lambda *_, **__: 1 / 0)
        return said(scene.send(service))


# --- what was sent --------------------------------------------------------------------------


def half_a_body(scene: Scene) -> Said:
    scene.patch.setattr(body, "STALL_SECONDS", 0.2)
    return scene.raw(scene.shared, f"{scene.content_type}Content-Length: 9\r\n\r\n", b"{" if scene.each.takes else b"-")


def a_huge_body(scene: Scene) -> Said:
    return scene.raw(scene.shared, f"{scene.content_type}Content-Length: {10**10}\r\n\r\n")


def a_text(scene: Scene) -> Said:
    return said(scene.send(scene.shared, content=b"x", headers={"Content-Type": "text/plain"}))


def a_wrong_form(scene: Scene) -> Said:
    if scene.each.uploads:
        return said(scene.send(scene.shared, files={"another": ("a.txt", b"x")}))
    return said(scene.send(scene.shared, content=b"{", headers={"Content-Type": "application/json"}))


def two_files(scene: Scene) -> Said:
    return said(scene.send(scene.shared, files=[("file", ("a", b"x")), ("file", ("b", b"x"))]))


def a_wrong_content(scene: Scene) -> Said:
    wrong = {"openSession": {"files": [{"path": "/x", "file_id": NEVER}]}}.get(scene.name, {"timeout_ms": 10**6})
    return said(scene.changed(scene.shared, **wrong))


def an_unknown_file(scene: Scene) -> Said:
    if scene.each.takes:
        return said(scene.changed(scene.shared, files=[{"path": "a", "file_id": NEVER}]))
    return said(scene.send(scene.shared))


def an_unknown_session(scene: Scene) -> Said:
    if scene.name.startswith("execute"):
        return said(scene.changed(scene.shared, session_id=NEVER))
    return said(scene.send(scene.shared))


def nothing_that_runs(scene: Scene) -> Said:
    return said(scene.send(scene.shared))


def inputs_that_do_not_fit(scene: Scene) -> Said:
    return said(scene.send(scene.make(faulty(TakesNoInputs), max_sessions=1)))


class TakesNoInputs(FakeSupervisor):
    def run(self, run: str, message: wire.Run) -> None:
        self.become_session(run)

    def become_session(self, run: str) -> None:
        self.say(wire.Refused(path="a", resource="disk"), run)


# --- keys and ids ---------------------------------------------------------------------------


def claimed(scene: Scene, run_seconds: float) -> httpx.Response:
    """Another replica has claimed the key; its run takes so long at most."""
    service = scene.make()
    other = Claims(service.service.store.storage, ttl_seconds=3600, run_seconds=run_seconds)
    asked = execute_request(msgspec.json.encode(BODIES[scene.name]), max_timeout_ms=60_000)
    service.call(other.make, claim_name("", "k"), other.new(digest(asked)))
    return keyed(scene, service)


def keyed(scene: Scene, service: Running) -> httpx.Response:
    return scene.send(service, headers={"Idempotency-Key": "k"})


def a_key_in_use(scene: Scene) -> Said:
    return said(claimed(scene, 100.0))


def a_key_of_the_dead(scene: Scene) -> Said:
    return said(claimed(scene, 0.0))


def a_key_of_another_body(scene: Scene) -> Said:
    service = scene.make()
    service.client.post("/v1/execute", json={"code": "print(2)"}, headers={"Idempotency-Key": "k"})
    return said(keyed(scene, service))


def an_id_that_runs(scene: Scene) -> Said:
    service = scene.make(waiting_backend())
    first = Call(service, id=NEVER)
    until_begun(service)
    answer = scene.send(service, headers={"X-Execution-Id": NEVER})
    let_end(service)
    assert first.answer.status_code == 200
    return said(answer)


def a_cancelled_run(scene: Scene) -> Said:
    """In the queue: from its sandbox on, a stream tells it by an event."""
    service = scene.make(waiting_backend(), pool_size=1, max_in_flight=1)
    first = Call(service)
    until_begun(service)
    waits = Call(service, scene.path(), id=NEVER)
    service.until(lambda: service.service.pool.snapshot().waiting == 1)
    assert service.client.delete(f"/v1/executions/{NEVER}").status_code == 204
    let_end(service)
    assert first.answer.status_code == 200
    return said(waits.answer)


# --- what there is no room for --------------------------------------------------------------


def too_often(scene: Scene) -> Said:
    service = scene.make(keys_file=key_file(scene.folder), tenant_runs_per_minute=1)
    service.client.headers["X-API-Key"] = "key of ana"
    scene.send(service)
    return said(scene.send(service))


def full_bodies(scene: Scene) -> Said:
    service = scene.make()
    service.service.bodies.limit_bytes = 1
    return said(scene.send(service))


def a_full_queue(scene: Scene) -> Said:
    if scene.name == "bash":
        scene.patch.setattr(session, "MOST_WAITING", 0)
        service = scene.make()
        return said(scene.send(service, id=scene.opened(service)))
    return beside_a_run(scene, queue=0)


def no_sandbox_in_time(scene: Scene) -> Said:
    if scene.name == "bash":
        return behind_a_call(scene)
    if scene.name == "openSession":
        return while_none_starts(scene)
    if scene.name == "closeSession":
        return while_nothing_is_seen(scene)
    return beside_a_run(scene, execution_queue_timeout_sec=0.2)


class SeesNothing:
    """Sessions of all replicas, while the API server is away."""

    def every(self) -> list[Any]:
        return []

    async def find(self, tenant: str, session_id: str) -> None:
        raise PoolTimeout("the API server cannot be watched at present", retry_after_seconds=1.0)


def while_nothing_is_seen(scene: Scene) -> Said:
    with scene.patch.context() as patch:
        patch.setattr(scene.shared.backend, "sessions", SeesNothing())
        return said(scene.send(scene.shared))


def while_none_starts(scene: Scene) -> Said:
    service = scene.make(execution_queue_timeout_sec=0.2)
    service.backend.gate = service.call(anyio.Event)
    answer = scene.send(service)
    service.call(service.backend.gate.set)
    return said(answer)


def beside_a_run(scene: Scene, **settings: Any) -> Said:
    """While the only sandbox runs another's program."""
    service = scene.make(waiting_backend(), pool_size=1, max_in_flight=1, **settings)
    first = Call(service)
    until_begun(service)
    answer = scene.send(service)
    let_end(service)
    assert first.answer.status_code == 200
    return said(answer)


def behind_a_call(scene: Scene) -> Said:
    """While the session does another's command."""
    scene.patch.setattr(session_routes, "SECONDS_FROM_GRANT", 0.2)
    backend = FakeBackend(start=Busy)
    backend.next_starts.append(FakeSupervisor)
    service = scene.make(backend, overhead_seconds=0.2)
    session_id = scene.opened(service)
    first = Call(service, scene.path(session_id), BODIES["bash"])
    busy = [each.supervisor for each in service.backend.live.values() if isinstance(each.supervisor, Busy)]
    service.until(lambda: any(each.runs_of_shell for each in busy))
    answer = scene.send(service, id=session_id)
    for each in busy:
        service.call(each.finish_shell)
    assert first.answer.status_code == 200
    return said(answer)


class Busy(FakeSupervisor):
    """Its commands end when they are let."""

    def __init__(self) -> None:
        super().__init__()
        self.runs_of_shell: list[str] = []

    def shell(self, run: str) -> None:
        self.runs_of_shell.append(run)

    def finish_shell(self) -> None:
        for run in self.runs_of_shell:
            super().shell(run)


def no_more_sessions(scene: Scene) -> Said:
    service = scene.make(max_sessions=1)
    scene.send(service)
    return said(scene.send(service))


def no_sessions_at_all(scene: Scene) -> Said:
    return said(scene.send(scene.make(max_sessions=0)))


def a_full_store(scene: Scene) -> Said:
    service = scene.make(file_quota_mb=1)
    service.service.store.quotas.add(Kind.FILES, "", 2**20)
    return said(scene.send(service) if scene.each.uploads else keyed(scene, service))


def a_failing_store(scene: Scene) -> Said:
    service = scene.make()
    file_id = service.upload(b"x")

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    with scene.patch.context() as patch:
        for name in ("get_async", "put_async", "delete_async", "list"):
            patch.setattr(obstore, name, fails)
        if scene.each.takes:
            return said(scene.changed(service, files=[{"path": "a", "file_id": file_id}]))
        return said(scene.send(service, id=file_id))


# --- the service, and its sandboxes ---------------------------------------------------------


def the_end_of_the_service(scene: Scene) -> Said:
    service = scene.make()
    service.call(service.service.drain)
    return said(scene.send(service))


def a_lost_sandbox(scene: Scene) -> Said:
    return in_a_bad_sandbox(scene, {"execute": EndsWithoutAnOutcome, "openSession": EndsAtSession, "bash": EndsAtShell})


def a_sandbox_that_lies(scene: Scene) -> Said:
    return in_a_bad_sandbox(scene, {"execute": SpeaksGarbage, "openSession": LiesAtSession, "bash": LiesAtShell})


def in_a_bad_sandbox(scene: Scene, kinds: dict[str, type[FakeSupervisor]]) -> Said:
    service = scene.make(faulty(kinds[scene.name]))
    return said(scene.send(service, id=scene.opened(service) if scene.name == "bash" else str(uuid.uuid4())))


PROVOKED: dict[Said, Callable[[Scene], Said]] = {
    (400, "bad_http"): two_hosts,
    (408, "bad_http"): half_a_head,
    (431, "bad_http"): a_long_head,
    (401, "unauthenticated"): no_key,
    (403, "foreign_caller"): a_foreign_host,
    (500, "internal"): a_bug,
    (408, "body_stalled"): half_a_body,
    (413, "too_large"): a_huge_body,
    (415, "wrong_content_type"): a_text,
    (422, "invalid_request"): a_wrong_form,
    (422, "bad_upload"): two_files,
    (422, "unprocessable"): a_wrong_content,
    (404, "file_not_found"): an_unknown_file,
    (404, "session_not_found"): an_unknown_session,
    (404, "execution_not_found"): nothing_that_runs,
    (422, "inputs_refused"): inputs_that_do_not_fit,
    (409, "key_in_use"): a_key_in_use,
    (409, "outcome_unknown"): a_key_of_the_dead,
    (422, "key_reused"): a_key_of_another_body,
    (409, "execution_exists"): an_id_that_runs,
    (409, "execution_cancelled"): a_cancelled_run,
    (429, "rate_limited"): too_often,
    (503, "bodies_full"): full_bodies,
    (429, "pool_saturated"): a_full_queue,
    (503, "pool_timeout"): no_sandbox_in_time,
    (429, "sessions_full"): no_more_sessions,
    (403, "no_sessions"): no_sessions_at_all,
    (507, "storage_full"): a_full_store,
    (503, "storage_failed"): a_failing_store,
    (503, "pool_closed"): the_end_of_the_service,
    (502, "sandbox_lost"): a_lost_sandbox,
    (502, "sandbox_misbehaved"): a_sandbox_that_lies,
}
