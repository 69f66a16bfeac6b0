"""A caller of a keyed run, and the run itself, cancelled at every suspension: it runs once, or the key is free."""

from __future__ import annotations

import asyncio

import anyio

from broker.keyed_runs import Keyed, KeyedRuns, Work
from broker.schemas import Result
from broker.shared_run import SharedRun
from tests.fakes.cancelling import Suspensions
from tests.fakes.claims import Shelf, ShelfClaims
from tests.fakes.clock import everyone_has_acted, in_virtual_time
from tests.fakes.keyed import RESULT, Program, call, quick
from tests.faults.test_cancel_everywhere import every_suspension


async def _one_call(suspensions: Suspensions, keyed: KeyedRuns, work: Program) -> None:
    await suspensions.drive(call(keyed, work))


def books_are_in_order(keyed: KeyedRuns, shelf: Shelf) -> None:
    assert keyed._runs == {}
    assert len(shelf.claims) == len(shelf.outcomes), "each claim has its outcome, and none is left without"


@in_virtual_time
async def _caller_cancelled(suspensions: Suspensions) -> None:
    shelf, program = Shelf(), quick()
    keyed = KeyedRuns(ShelfClaims(shelf))
    async with keyed.open():
        task = asyncio.get_running_loop().create_task(_one_call(suspensions, keyed, program))
        await asyncio.wait([task])
        await everyone_has_acted()
        books_are_in_order(keyed, shelf)
        await _asked_again(keyed, program)
        assert program.begun == 1
    books_are_in_order(keyed, shelf)


async def _asked_again(keyed: KeyedRuns, work: Program) -> None:
    """The outcome, whichever: a result, or that it was cancelled."""
    async with keyed.joined(caller="", key="key", digest="same", execution_id="again", work=work) as run:
        await run.over()
    assert run.result == RESULT or (run.failure is not None and run.failure.kind.code == "execution_cancelled")


def test_a_caller_cancelled_anywhere_leaves_a_key_that_runs_once() -> None:
    assert every_suspension(_caller_cancelled) >= 2


class Struck(KeyedRuns):
    """Its first run is abandoned at the k-th suspension of its task."""

    def __init__(self, shelf: Shelf, suspensions: Suspensions) -> None:
        super().__init__(ShelfClaims(shelf))
        self._suspensions: Suspensions | None = suspensions

    async def _once(self, keyed: Keyed, run: SharedRun, work: Work) -> None:
        once = super()._once(keyed, run, work)
        if self._suspensions is None:
            return await once
        suspensions, self._suspensions = self._suspensions, None
        suspensions.strike = run.scope.cancel
        await suspensions.drive(once)


@in_virtual_time
async def _run_cancelled(suspensions: Suspensions) -> None:
    shelf, program = Shelf(), quick()
    keyed = Struck(shelf, suspensions)
    async with keyed.open():
        await _asked_again(keyed, program)
        books_are_in_order(keyed, shelf)
        await _asked_again(keyed, program)
        assert program.begun == 1
    books_are_in_order(keyed, shelf)


def test_a_run_abandoned_anywhere_has_an_outcome_or_gives_its_key_up() -> None:
    assert every_suspension(_run_cancelled) >= 4


@in_virtual_time
async def test_who_comes_while_an_abandoned_run_ends_gets_a_run_of_its_own() -> None:
    shelf, program = Shelf(), quick()
    program.is_queued = True
    keyed, results = KeyedRuns(ShelfClaims(shelf)), list[Result]()

    async def late() -> None:
        results.append(await call(keyed, program))

    async with keyed.open(), anyio.create_task_group() as group:
        async with keyed.joined(caller="", key="key", digest="same", execution_id="first", work=program):
            await everyone_has_acted()
        program.is_queued = False
        group.start_soon(late)
    assert results == [RESULT]
