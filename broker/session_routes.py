"""`/v1/sessions`: open one, run a command in it, close it."""

from __future__ import annotations

from functools import partial

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from broker.admission import SECONDS_FROM_GRANT, refuse_while_draining, staged
from broker.body import read_json_body
from broker.disconnect import while_connected
from broker.held_output import HeldOutput
from broker.schemas import BashRequest, BashResult, OpenSession, Termination, Truncated, batch_text
from broker.service import Service, service_of
from broker.session_validation import bash_request, session_request
from broker.tenants import Tenant, tenant_of
from broker.validation import MAX_BODY_BYTES
from pool import Outcome, Stream

MAX_BASH_BODY_BYTES = 2**20
"""A command of 128 KiB, with every character escaped."""

START_SECONDS = 8.0
"""For the sandbox of a session, which is started when it is asked for, however short runs may queue. Shorter refuses on
busy nodes; with what opening takes beside it (`sessions.OPEN_SECONDS`) clients wait 30 s."""


class OutputSink(HeldOutput):
    async def output(self, stream: Stream, data: bytes) -> None:
        self.add(stream, data)

    async def file(self, path: str, data: bytes, last: bool) -> None:
        raise AssertionError("a session keeps its files")


async def open_session(request: Request) -> Response:
    service, tenant = service_of(request), tenant_of(request)
    with service.request("session_create", tenant) as held:
        refuse_while_draining(service)
        asked = session_request(await read_json_body(request, held, limit_bytes=MAX_BODY_BYTES))
        files = await staged(asked.files, service.files(tenant))
        deadline = anyio.current_time() + max(service.settings.execution_queue_timeout_sec, START_SECONDS)
        opening = partial(service.sessions.open, tenant, ttl_seconds=asked.ttl_seconds, files=files)
        with service.metrics.operation("session_create") as operation:
            opened = await while_connected(partial(opening, lease_deadline=deadline), request.scope)
            operation.outcome = "ok"
    answer = OpenSession(session_id=opened.session_id, expires_at=opened.expires_at)
    return Response(msgspec.json.encode(answer), status_code=201, media_type="application/json")


async def bash(request: Request) -> Response:
    service, tenant = service_of(request), tenant_of(request)
    with service.request("session_bash", tenant) as held:
        refuse_while_draining(service)
        body = await read_json_body(request, held, limit_bytes=MAX_BASH_BODY_BYTES)
        asked = bash_request(body, max_timeout_ms=service.settings.max_exec_timeout_ms)
        # However long it waits for its turn and runs, others may send their bodies.
        del body
        held.release()
        ended = await while_connected(
            partial(_run, service, tenant, request.path_params["session_id"], asked), request.scope
        )
    return Response(msgspec.json.encode(ended), media_type="application/json")


async def close_session(request: Request) -> Response:
    await service_of(request).sessions.close(tenant_of(request), request.path_params["session_id"])
    return Response(status_code=204)


async def _run(service: Service, tenant: Tenant, session_id: str, asked: BashRequest) -> BashResult:
    sink, settings = OutputSink(), service.settings
    wait_seconds = max(settings.shared_seconds, SECONDS_FROM_GRANT)
    deadline = anyio.current_time() + wait_seconds + asked.timeout_ms / 1000
    with service.metrics.operation("session_bash") as operation, service.metrics.sessions.call(tenant.name) as call:
        outcome = await service.sessions.shell(
            tenant, session_id, asked.cmd, timeout_ms=asked.timeout_ms, sink=sink, deadline=deadline
        )
        operation.outcome = call.outcome = "timed_out" if outcome.timed_out else "ok"
    return _result(outcome, sink, settings.max_output_bytes)


def _result(outcome: Outcome, sink: OutputSink, cap: int) -> BashResult:
    return BashResult(
        stdout=batch_text(sink.data["stdout"], cap=cap, truncated=outcome.stdout_truncated),
        stderr=batch_text(sink.data["stderr"], cap=cap, truncated=outcome.stderr_truncated),
        exit_code=outcome.exit_code,
        timed_out=outcome.timed_out,
        duration_ms=outcome.duration_ms,
        termination=Termination(outcome.reason, outcome.signal),
        limits_hit=outcome.limits_hit,
        truncated=Truncated(outcome.stdout_truncated, outcome.stderr_truncated),
    )
