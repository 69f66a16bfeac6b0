"""`DELETE /v1/executions/{id}` at every suspension of a run: the sandbox comes back, and the id is free."""

from __future__ import annotations

from contextlib import suppress

from broker.errors import ExecutionCancelled
from broker.executions import Executions
from tests.fakes.backend import FakeBackend
from tests.fakes.cancelling import Suspensions
from tests.fakes.clock import everyone_has_acted, in_virtual_time
from tests.fakes.pools import full, holds_together, nothing_is_left, pool_of
from tests.faults.test_cancel_everywhere import every_suspension, one_run

CALLER, ID = "", "id"


@in_virtual_time
async def _cancelled(suspensions: Suspensions) -> None:
    backend, executions = FakeBackend(), Executions()
    suspensions.strike = lambda: executions._running[CALLER, ID].scope.cancel()
    ended = False
    async with pool_of(backend) as pool:
        await full(pool)
        with suppress(ExecutionCancelled), executions.running(CALLER, ID):
            await suspensions.drive(one_run(pool))
            ended = True
        assert ended or suspensions.has_struck
        assert len(executions) == 0
        await everyone_has_acted()
        holds_together(pool, backend)
        await full(pool)
        with executions.running(CALLER, ID):
            await one_run(pool)
    nothing_is_left(pool, backend)


def test_a_run_cancelled_by_its_id_anywhere_loses_nothing() -> None:
    assert every_suspension(_cancelled) >= 5
