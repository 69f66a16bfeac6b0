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
from broker.results import result
from broker.returned_files import ReturnedFiles
from broker.schemas import BatchResult, Result, batch_text
from broker.service import Service, service_of
from broker.shared_execution import joined
from broker.tenants import tenant_of
from pool import Stream


class BatchSink:
    """Holds the output of one run, at most the cap of each stream; files go straight to the store."""

    def __init__(self, files: ReturnedFiles) -> None:
        self.data: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._files = files

    async def output(self, stream: Stream, data: bytes) -> None:
        self.data[stream] += data

    async def file(self, path: str, data: bytes, last: bool) -> None:
        await self._files.take(path, data, last=last)


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
        ended = await while_connected(partial(_run, service, admitted), request.receive)
    service.metrics.result(ended)
    return ended


async def _run(service: Service, admitted: Admitted) -> BatchResult:
    tenant = admitted.tenant
    async with ReturnedFiles(service.files(tenant)) as files:
        sink = BatchSink(files)
        async with service.pool.lease(deadline=admitted.lease_deadline, caller=tenant.caller) as lease:
            with service.metrics.execution("execute", lease, tenant.name) as execution:
                outcome = await lease.run(admitted.program, admitted.inputs, sink, admitted.run_deadline)
                ended = result(admitted, lease, outcome, files)
                execution.ended(ended)
        files.delivered = True
    return _batch(ended, sink.data, service.settings.max_output_bytes)


async def _shared(service: Service, asked: Asked, key: str, request: Request) -> BatchResult:
    async with joined(service, asked, key, "execute") as run:
        await while_connected(run.over, request.receive)
    add_execution_id(request, run.execution_id)
    output: dict[Stream, bytearray] = {"stdout": run.output.stdout, "stderr": run.output.stderr}
    return _batch(run.ended(), output, service.settings.max_output_bytes)


def _batch(ended: Result, output: Mapping[Stream, bytearray], cap: int) -> BatchResult:
    return BatchResult(
        **msgspec.structs.asdict(ended),
        stdout=batch_text(output["stdout"], cap=cap, truncated=ended.truncated.stdout),
        stderr=batch_text(output["stderr"], cap=cap, truncated=ended.truncated.stderr),
    )
