"""`POST /v1/execute`: run a program, answer with everything at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from broker.admission import Admitted, Asked, ask, look_up
from broker.disconnect import while_connected
from broker.edge import add_execution_id, add_timings
from broker.held_output import HeldOutput
from broker.schemas import BatchResult, Result, batch_text
from broker.service import Service, service_of
from broker.shared_execution import joined
from broker.tenants import tenant_of
from broker.whole_run import whole_run
from pool import Stream


async def execute(request: Request) -> Response:
    service = service_of(request)
    with service.request("execute", tenant_of(request)) as held:
        asked = await ask(request, service, held)
        add_execution_id(request, asked.execution_id)
        key = asked.idempotency_key
        ended = await (_own(service, asked, request) if key is None else _shared(service, asked, key, request))
    add_timings(request, ended.timings_ms)
    return Response(msgspec.json.encode(ended), media_type="application/json")


async def _own(service: Service, asked: Asked, request: Request) -> BatchResult:
    """A run that belongs to this request alone, and ends with it."""
    with service.executions.running(asked.caller, asked.execution_id):
        admitted = await look_up(asked, service)
        ended = await while_connected(partial(_run, service, admitted), request.scope)
    service.metrics.result(ended)
    return ended


async def _run(service: Service, admitted: Admitted) -> BatchResult:
    output = HeldOutput()
    ended = await whole_run(service, admitted, "execute", take=output.add)
    return _batch(ended, output.data, service.settings.max_output_bytes)


async def _shared(service: Service, asked: Asked, key: str, request: Request) -> BatchResult:
    async with joined(service, asked, key, "execute") as run:
        await while_connected(run.over, request.scope)
    add_execution_id(request, run.execution_id)
    output: dict[Stream, bytearray] = {"stdout": run.output.stdout, "stderr": run.output.stderr}
    return _batch(run.ended(), output, service.settings.max_output_bytes)


def _batch(ended: Result, output: Mapping[Stream, bytearray], cap: int) -> BatchResult:
    return BatchResult(
        **msgspec.structs.asdict(ended),
        stdout=batch_text(output["stdout"], cap=cap, truncated=ended.truncated.stdout),
        stderr=batch_text(output["stderr"], cap=cap, truncated=ended.truncated.stderr),
    )
