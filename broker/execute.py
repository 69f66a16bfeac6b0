"""`POST /v1/execute`: run a program, answer with everything at once."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from broker.admission import Admitted, admit
from broker.disconnect import while_connected
from broker.edge import add_timings
from broker.returned_files import ReturnedFiles
from broker.schemas import BatchResult, Result, SkippedPath, Termination, Truncated, batch_text, timings
from broker.service import Service, service_of
from broker.tenants import Tenant, tenant_of
from pool import Lease, Outcome, Stream

SKIPPED_SHOWN = 20


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
    service, tenant = service_of(request), tenant_of(request)
    with service.request("execute", tenant) as held:
        admitted = await admit(request, service, held)
        ended = await while_connected(partial(_run, service, tenant, admitted), request.receive)
    service.metrics.result(ended)
    add_timings(request, ended.timings_ms)
    return Response(msgspec.json.encode(ended), media_type="application/json")


async def _run(service: Service, tenant: Tenant, admitted: Admitted) -> BatchResult:
    async with ReturnedFiles(service.files(tenant)) as files:
        sink = BatchSink(files)
        async with service.pool.lease(deadline=admitted.lease_deadline, caller=tenant.caller) as lease:
            with service.metrics.execution("execute", lease, tenant.name) as execution:
                outcome = await lease.run(admitted.program, admitted.inputs, sink, admitted.run_deadline)
                ended = result(admitted, lease, outcome, files)
                execution.ended(ended)
        files.delivered = True
    return _batch(ended, sink, service.settings.max_output_bytes)


def _batch(ended: Result, sink: BatchSink, cap: int) -> BatchResult:
    return BatchResult(
        **msgspec.structs.asdict(ended),
        stdout=batch_text(sink.data["stdout"], cap=cap, truncated=ended.truncated.stdout),
        stderr=batch_text(sink.data["stderr"], cap=cap, truncated=ended.truncated.stderr),
    )


def result(admitted: Admitted, lease: Lease, outcome: Outcome, files: ReturnedFiles) -> Result:
    skipped = [*(SkippedPath(each.path, each.reason) for each in outcome.files_skipped), *files.skipped]
    return Result(
        exit_code=outcome.exit_code,
        timed_out=outcome.timed_out,
        duration_ms=outcome.duration_ms,
        files=files.kept,
        execution_id=admitted.execution_id,
        termination=Termination(outcome.reason, outcome.signal),
        limits_hit=outcome.limits_hit,
        files_skipped=skipped[:SKIPPED_SHOWN],
        files_skipped_count=outcome.files_skipped_count + len(files.skipped),
        truncated=Truncated(outcome.stdout_truncated, outcome.stderr_truncated),
        isolation=lease.isolation.level,
        timings_ms=timings(outcome, queue_ms=lease.queue_ms, lease_ms=lease.lease_ms),
    )
