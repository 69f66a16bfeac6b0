"""What becomes of a sandbox after a run, where programs may follow each other in one; over a fake backend."""

from __future__ import annotations

from pool import Caller, State
from pool.canary import PROGRAM as CANARY
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import in_virtual_time, pass_time, until
from tests.fakes.pools import PRINT, CountingObserver, count, full, is_full, pool_of, ran, soon, the_ready_one
from tests.fakes.sinks import KeepingSink
from tests.fakes.supervisor import outcome


@in_virtual_time
async def test_a_sandbox_is_cleaned_and_used_again_until_it_has_had_its_runs():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1, max_runs_per_sandbox=3) as pool:
        await full(pool)
        used = the_ready_one(pool, backend)
        for _ in range(3):
            await ran(pool)
            await full(pool)
        assert len(used.supervisor.programs) == 3
        assert used.name not in backend.live
    assert observer.words("cleaned") == [0, 0]
    assert observer.words("retired")[:2] == ["canary", "used"]


@in_virtual_time
async def test_a_sandbox_that_is_not_clean_is_retired():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1, max_runs_per_sandbox=3) as pool:
        await full(pool)
        used = the_ready_one(pool, backend)
        used.supervisor.findings = ["the mounts is not as it was"]
        await ran(pool)
        await full(pool)
        assert used.name not in backend.live
    assert observer.words("cleaned") == [1]
    assert observer.words("retired")[:2] == ["canary", "not_clean"]


@in_virtual_time
async def test_a_sandbox_whose_cleaning_is_not_answered_is_retired():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1, max_runs_per_sandbox=3) as pool:
        await full(pool)
        used = the_ready_one(pool, backend)
        used.supervisor.clean = lambda: None  # type: ignore[method-assign]
        await ran(pool)
        await full(pool)
    assert observer.words("retired")[:2] == ["canary", "not_clean"]


@in_virtual_time
async def test_a_program_that_was_ended_is_followed_by_no_other():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1, max_runs_per_sandbox=3) as pool:
        await full(pool)
        supervisor = the_ready_one(pool, backend).supervisor
        supervisor.results = lambda: [outcome(exit_code=None, reason="timeout")]  # type: ignore[method-assign]
        await ran(pool)
        await full(pool)
    assert observer.words("cleaned") == []
    assert observer.words("retired")[:2] == ["canary", "used"]


@in_virtual_time
async def test_a_sandbox_that_was_used_is_retired_when_it_is_old():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1, max_runs_per_sandbox=3, reuse_seconds=60.0) as pool:
        await full(pool)
        pass_time(61.0)
        await ran(pool)
        await full(pool)
    assert observer.words("retired")[:2] == ["canary", "age"]


@in_virtual_time
async def test_where_each_proves_itself_none_is_used_up_by_a_canary():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, canary_each=True) as pool:
        await full(pool)
        ready = list(backend.live.values())
        assert [each.supervisor.programs for each in ready] == [[CANARY.code]] * 2
        assert len(backend.created) == 2
    assert observer.words("retired") == ["closing"] * 2


@in_virtual_time
async def test_more_are_made_for_those_who_wait_and_given_up_when_idle():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1, max_in_flight=3, max_runs_per_sandbox=9) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()) as one:
            assert count(pool, State.STARTING) == 0
            async with pool.lease(deadline=soon()) as two, pool.lease(deadline=soon()) as three:
                for each in (one, two, three):
                    await each.run(PRINT, (), KeepingSink(), soon())
        await until(lambda: count(pool, State.READY) == 3)
        await until(lambda: is_full(pool))
    assert observer.words("retired") == ["canary", "surplus", "surplus", "closing"]


@in_virtual_time
async def test_within_a_caller_a_sandbox_is_used_again_by_that_caller_only():
    backend = FakeBackend()
    async with pool_of(backend, size=1, max_runs_per_sandbox=9, reuse_within_caller=True) as pool:
        await full(pool)
        used = []
        for name in ("a", "b", "b", "a"):
            async with pool.lease(deadline=soon(), caller=Caller(name)) as lease:
                await lease.run(PRINT, (), KeepingSink(), soon())
                used.append(lease.sandbox)
            await full(pool)
    assert used[1] == used[2]
    assert len({used[0], used[1], used[3]}) == 3, "a's made way for b's, and b's for a's"
