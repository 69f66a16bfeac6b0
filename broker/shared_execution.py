"""A run with an idempotency key, as `KeyedRuns` has it carried out."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

from broker.admission import Asked, look_up
from broker.digest import digest
from broker.results import result
from broker.returned_files import ReturnedFiles
from broker.schemas import Result
from broker.service import Service
from broker.shared_run import SharedRun
from pool import PoolError, Stream


class SharedSink:
    """Output to all who wait for the run; files go straight to the store."""

    def __init__(self, run: SharedRun, files: ReturnedFiles) -> None:
        self._run = run
        self._files = files

    async def output(self, stream: Stream, data: bytes) -> None:
        self._run.add(stream, data)

    async def file(self, path: str, data: bytes, last: bool) -> None:
        await self._files.take(path, data, last=last)


def joined(service: Service, asked: Asked, key: str, operation: str) -> AbstractAsyncContextManager[SharedRun]:
    """The run that this request is a call for."""
    return service.keyed.joined(
        caller=asked.caller,
        key=key,
        digest=digest(asked.request),
        execution_id=asked.execution_id,
        work=partial(_carry_out, service, asked, operation),
    )


async def _carry_out(service: Service, asked: Asked, operation: str, run: SharedRun) -> None:
    try:
        with service.executions.running(asked.caller, asked.execution_id):
            run.result = await _result(service, asked, operation, run)
    except PoolError as error:
        service.metrics.rejected(operation, error, asked.tenant.name)
        raise
    service.metrics.result(run.result)


async def _result(service: Service, asked: Asked, operation: str, run: SharedRun) -> Result:
    admitted, tenant = await look_up(asked, service), asked.tenant
    async with ReturnedFiles(service.files(tenant)) as files:
        async with service.pool.lease(deadline=admitted.lease_deadline, caller=tenant.caller) as lease:
            with service.metrics.execution(operation, lease, tenant.name) as execution:
                run.begin()
                sink = SharedSink(run, files)
                outcome = await lease.run(admitted.program, admitted.inputs, sink, admitted.run_deadline)
                ended = result(admitted, lease, outcome, files)
                execution.ended(ended)
        files.delivered = True
    return ended
