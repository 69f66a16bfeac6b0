"""A run with an idempotency key, as `KeyedRuns` has it carried out."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

from broker.admission import Asked, look_up
from broker.digest import digest
from broker.service import Service
from broker.shared_run import SharedRun
from broker.whole_run import whole_run
from pool import PoolError


def joined(service: Service, asked: Asked, key: str, operation: str) -> AbstractAsyncContextManager[SharedRun]:
    """The run that this request is a call for."""
    return service.keyed.joined(
        caller=asked.caller,
        key=key,
        digest=digest(asked.request),
        execution_id=asked.execution_id,
        work=partial(_carry_out, service, asked, operation),
        quota_bytes=asked.tenant.file_quota_bytes,
    )


async def _carry_out(service: Service, asked: Asked, operation: str, run: SharedRun) -> None:
    try:
        with service.executions.running(asked.caller, asked.execution_id):
            admitted = await look_up(asked, service)
            run.result = await whole_run(service, admitted, operation, take=run.add, begin=run.begin)
    except PoolError as error:
        service.metrics.rejected(operation, error, asked.tenant.name)
        raise
    service.metrics.result(run.result)
