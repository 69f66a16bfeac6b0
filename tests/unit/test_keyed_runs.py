"""A key runs once: whoever asks again, whenever, on whichever replica, and whatever becomes of the first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from broker.claims import Claim, claim_name
from broker.errors import ExecutionCancelled, FileMissing, SharedFailure, StorageFailed
from broker.keyed_runs import KeyedRuns
from broker.schemas import Result
from pool import PoolSaturated, SandboxLost
from tests.fakes.claims import Shelf, ShelfClaims
from tests.fakes.clock import everyone_has_acted, in_virtual_time
from tests.fakes.keyed import RESULT, Program, call, quick


async def code_of(keyed: KeyedRuns, work: Program, **fields: str) -> tuple[int, str, bool]:
    with pytest.raises(SharedFailure) as caught:
        await call(keyed, work, **fields)
    kind = caught.value.answer.kind
    return kind.status, kind.code, kind.retryable


@asynccontextmanager
async def replica(shelf: Shelf) -> AsyncIterator[KeyedRuns]:
    keyed = KeyedRuns(ShelfClaims(shelf))
    async with keyed.open():
        yield keyed


@in_virtual_time
async def test_the_same_key_and_request_run_once_on_whichever_replica() -> None:
    shelf, program = Shelf(), quick()
    async with replica(shelf) as one, replica(shelf) as other:
        assert [await call(each, program) for each in (one, one, other)] == [RESULT] * 3
    assert program.begun == 1


@in_virtual_time
async def test_another_request_with_the_key_is_422_wherever_and_whenever() -> None:
    shelf, program = Shelf(), Program()
    async with replica(shelf) as one, replica(shelf) as other, anyio.create_task_group() as group:
        group.start_soon(call, one, program)
        await everyone_has_acted()
        assert await code_of(one, quick(), digest="another") == (422, "key_reused", False)
        assert await code_of(other, quick(), digest="another") == (422, "key_reused", False)
        program.may_end.set()
        await everyone_has_acted()
        assert await code_of(one, quick(), digest="another") == (422, "key_reused", False)


@in_virtual_time
async def test_another_caller_has_keys_of_its_own() -> None:
    shelf, first, second = Shelf(), quick(), quick()
    async with replica(shelf) as one:
        await call(one, first, caller="a")
        await call(one, second, caller="b")
    assert (first.begun, second.begun) == (1, 1)


@in_virtual_time
async def test_who_comes_while_it_runs_joins_it_and_sees_its_output_from_the_start() -> None:
    program, results = Program(), list[Result]()

    async def join() -> None:
        results.append(await call(one, program))

    async with replica(Shelf()) as one, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(join)
            await everyone_has_acted()
        async with one.joined(caller="", key="key", digest="same", execution_id="late", work=program) as run:
            assert (bytes(run.output.stdout), run.execution_id) == (b"hi", "first")
            program.may_end.set()
            await run.over()
    assert (results, program.begun) == ([RESULT] * 3, 1)


@in_virtual_time
async def test_it_goes_on_when_the_first_caller_leaves_and_another_waits() -> None:
    program = Program()
    async with replica(Shelf()) as one, anyio.create_task_group() as group:
        with anyio.CancelScope() as first:
            async with one.joined(caller="", key="key", digest="same", execution_id="first", work=program):
                group.start_soon(call, one, program)
                await everyone_has_acted()
                first.cancel()
                await anyio.sleep_forever()
        await everyone_has_acted()
        program.may_end.set()
        assert await call(one, program) == RESULT
    assert program.begun == 1


async def leave(keyed: KeyedRuns, program: Program) -> None:
    async with keyed.joined(caller="", key="key", digest="same", execution_id="first", work=program):
        await everyone_has_acted()


@in_virtual_time
async def test_when_the_last_caller_leaves_it_is_cancelled_and_stays_so() -> None:
    shelf, program = Shelf(), Program()
    async with replica(shelf) as one, replica(shelf) as other:
        await leave(one, program)
        assert await code_of(one, program) == (409, "execution_cancelled", False)
        assert await code_of(other, program) == (409, "execution_cancelled", False)
    assert program.begun == 1


@in_virtual_time
async def test_when_the_last_caller_leaves_the_queue_the_key_is_free() -> None:
    shelf, program = Shelf(), quick()
    program.is_queued = True
    async with replica(shelf) as one:
        await leave(one, program)
        program.is_queued = False
        assert await call(one, program) == RESULT
    assert program.begun == 1


@pytest.mark.parametrize("error", [PoolSaturated("full", retry_after_seconds=1), FileMissing("gone")])
@in_virtual_time
async def test_what_was_refused_gives_its_key_up(error: Exception) -> None:
    shelf, program = Shelf(), quick()
    program.error = error
    async with replica(shelf) as one, replica(shelf) as other:
        status, _, _ = await code_of(one, program)
        assert status in (404, 429)
        assert shelf.claims == {}
        program.error = None
        assert await call(other, program) == RESULT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SandboxLost("gone"), (502, "sandbox_lost", False)),
        (ExecutionCancelled("x"), (409, "execution_cancelled", False)),
    ],
)
@in_virtual_time
async def test_a_failure_after_the_program_may_have_run_is_the_outcome(error: Exception, code: object) -> None:
    shelf, program = Shelf(), quick()
    program.error = error
    async with replica(shelf) as one, replica(shelf) as other:
        assert [await code_of(each, program) for each in (one, one, other)] == [code] * 3
    assert program.begun == 1


@in_virtual_time
async def test_while_another_replica_runs_it_the_caller_is_told_to_come_back() -> None:
    shelf, program = Shelf(), Program()
    async with replica(shelf) as one, replica(shelf) as other, anyio.create_task_group() as group:
        group.start_soon(call, one, program)
        await everyone_has_acted()
        with pytest.raises(SharedFailure) as caught:
            await call(other, quick())
        answer = caught.value.answer
        assert (answer.kind.code, answer.kind.retryable, answer.retry_after_seconds) == ("key_in_use", True, 2)
        program.may_end.set()
        await everyone_has_acted()
        assert await call(other, program) == RESULT


@in_virtual_time
async def test_a_claim_whose_replica_died_is_unknown_once_its_run_must_be_over_and_never_run_again() -> None:
    shelf, again = Shelf(), quick()
    dead = ShelfClaims(shelf)
    await dead.make(claim_name("", "key"), dead.new("same"))
    async with replica(shelf) as other:
        assert (await code_of(other, again))[1] == "key_in_use"
        shelf.now += 100
        assert await code_of(other, again) == (409, "outcome_unknown", False)
    assert again.begun == 0


@in_virtual_time
async def test_an_outcome_that_could_not_be_stored_is_told_to_its_callers_and_unknown_to_later_ones() -> None:
    shelf, program = Shelf(), Program()
    async with replica(shelf) as one, anyio.create_task_group() as group:
        group.start_soon(call, one, program)
        await everyone_has_acted()
        shelf.is_broken = True
        program.may_end.set()
        await everyone_has_acted()
        shelf.is_broken = False
        assert await code_of(one, program) == (409, "outcome_unknown", False)
    assert program.begun == 1


@in_virtual_time
async def test_without_a_store_nothing_runs() -> None:
    shelf, program = Shelf(), quick()
    shelf.is_broken = True
    async with replica(shelf) as one:
        assert await code_of(one, program) == (503, "storage_failed", True)
        shelf.is_broken = False
        assert await call(one, program) == RESULT
    assert program.begun == 1


class LosesItsAnswer(ShelfClaims):
    """The claim is made, the answer is lost, and the store's client tries again: it finds its own."""

    async def _create(self, name: str, claim: object) -> bool:
        await super()._create(name, claim)  # type: ignore[arg-type]
        return False


@in_virtual_time
async def test_a_claim_that_finds_itself_is_its_own() -> None:
    program, keyed = quick(), KeyedRuns(LosesItsAnswer(Shelf()))
    async with keyed.open():
        assert await call(keyed, program) == RESULT


class LosesTheAnswerFor(ShelfClaims):
    """Claims are made, nobody is told, and for a while nothing can be read."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.is_away = True

    async def _create(self, name: str, claim: Claim) -> bool:
        made = await super()._create(name, claim)
        if self.is_away:
            raise StorageFailed("no answer")
        return made

    async def _read(self, name: str) -> Claim | None:
        if self.is_away:
            raise StorageFailed("no answer")
        return await super()._read(name)


@asynccontextmanager
async def in_doubt(shelf: Shelf) -> AsyncIterator[KeyedRuns]:
    """A replica that was refused a claim which it has all the same; now the store answers again."""
    claims = LosesTheAnswerFor(shelf)
    keyed = KeyedRuns(claims)
    async with keyed.open():
        assert await code_of(keyed, quick()) == (503, "storage_failed", True)
        claims.is_away = False
        assert len(shelf.claims) == 1
        yield keyed


@in_virtual_time
async def test_a_claim_that_nobody_knew_was_made_runs_when_its_caller_tries_again() -> None:
    shelf, program = Shelf(), quick()
    async with in_doubt(shelf) as one, replica(shelf) as other:
        assert [await call(one, program), await call(one, program), await call(other, program)] == [RESULT] * 3
    assert program.begun == 1


@in_virtual_time
async def test_such_a_claim_is_given_up_once_its_run_could_outlast_it() -> None:
    shelf, program = Shelf(), quick()
    async with in_doubt(shelf) as one:
        shelf.now += 61
        assert (await code_of(one, program))[1] == "outcome_unknown"
    assert program.begun == 0


@in_virtual_time
async def test_such_a_claim_is_not_another_requests_nor_another_replicas() -> None:
    shelf, program = Shelf(), quick()
    async with in_doubt(shelf) as one, replica(shelf) as other:
        assert (await code_of(one, program, digest="another"))[1] == "key_reused"
        assert (await code_of(other, program))[1] == "key_in_use"
    assert program.begun == 0


class SaysNoAndMakesIt(ShelfClaims):
    """The claim is made, the call fails, and reading works."""

    async def _create(self, name: str, claim: Claim) -> bool:
        await super()._create(name, claim)
        raise StorageFailed("no answer")


@in_virtual_time
async def test_a_claim_that_may_have_been_made_is_read_back() -> None:
    shelf, program = Shelf(), quick()
    keyed = KeyedRuns(SaysNoAndMakesIt(shelf))
    async with keyed.open(), replica(shelf) as other:
        assert [await call(keyed, program), await call(other, program)] == [RESULT] * 2
    assert program.begun == 1


@in_virtual_time
async def test_the_end_of_the_service_is_an_outcome_too() -> None:
    shelf, program = Shelf(), Program()
    async with anyio.create_task_group() as group, replica(shelf) as one:
        group.start_soon(code_of, one, program)
        await everyone_has_acted()
    (record,) = shelf.outcomes.values()
    assert record.failure is not None
    assert record.failure.kind.code == "execution_cancelled"
