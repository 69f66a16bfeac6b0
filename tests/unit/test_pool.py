"""The pool over a fake backend: a story each, with the whole ledger in one line where it matters."""

from __future__ import annotations

import anyio
import pytest

from pool import (
    LocalProtocolError,
    PoolClosed,
    PoolSaturated,
    PoolTimeout,
    Program,
    RunLimits,
    SandboxPool,
    State,
)
from pool.canary import PROGRAM as CANARY
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import everyone_has_acted, in_virtual_time, until
from tests.fakes.pools import (
    PRINT,
    SETTINGS,
    CountingObserver,
    count,
    full,
    nothing_is_left,
    pool_of,
    ran,
    run_for,
    soon,
    the_ready_one,
)
from tests.fakes.sinks import KeepingSink
from tests.fakes.supervisor import FakeSupervisor, shut

# --- becoming warm ---


@in_virtual_time
async def test_a_pool_fills_itself_and_empties_itself():
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        assert repr(pool) == (
            "<SandboxPool [Slots: 1 starting, 0 ready, 0 probing, 0 leased, 0 recycling, 0 retiring"
            " | Waiting: 0 | Hold: none]>"
        )
        await full(pool)
        assert repr(pool) == (
            "<SandboxPool [Slots: 0 starting, 2 ready, 0 probing, 0 leased, 0 recycling, 0 retiring"
            " | Waiting: 0 | Hold: none]>"
        )
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_only_the_first_of_a_generation_runs_the_canary_and_is_not_leased():
    backend, observer = FakeBackend(), CountingObserver()
    supervisors: list[FakeSupervisor] = []
    backend.start = lambda: supervisors.append(FakeSupervisor()) or supervisors[-1]  # type: ignore[func-returns-value]
    async with pool_of(backend, observer) as pool:
        await full(pool)
        assert [each.programs for each in supervisors] == [[CANARY.code], [], []]
        assert observer.words("retired") == ["canary"]
        assert pool.snapshot().runs == 0


@in_virtual_time
async def test_a_snapshot_says_whether_there_is_and_was_a_warm_sandbox():
    backend = FakeBackend()
    backend.gate = anyio.Event()
    async with pool_of(backend) as pool:
        await anyio.sleep(5.0)
        cold = pool.snapshot()
        assert not cold.has_been_warm
        assert cold.cold_seconds == pytest.approx(5.0)
        backend.gate.set()
        await full(pool)
        warm = pool.snapshot()
        assert (warm.has_been_warm, warm.cold_seconds) == (True, 0.0)
        assert (warm.size, warm.limit, warm.queue, warm.max_in_flight, warm.generation) == (2, 7, 4, 3, 1)
        assert (warm.hold_reason, warm.hold_text, warm.closing) == (None, None, False)


# --- leasing ---


@in_virtual_time
async def test_a_program_runs_in_a_sandbox_that_was_warm_and_is_replaced():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()) as lease:
            sink = KeepingSink()
            outcome = await lease.run(PRINT, (), sink, soon(11.0))
            assert (outcome.exit_code, sink.streams["stdout"]) == (0, b"hi\n")
            assert lease.warm
            assert lease.sandbox in backend.live
            assert 0.0 <= lease.queue_ms < 1000.0
            assert 0.0 <= lease.lease_ms < 1000.0
        await full(pool)
        assert lease.sandbox not in backend.live
        assert pool.snapshot().runs == 1
        assert (observer.words("granted"), observer.words("ran")) == ([True], ["exited"])
        assert observer.words("retired") == ["canary", "used"]


@in_virtual_time
async def test_the_answer_comes_before_the_sandbox_is_ended():
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()) as lease:
            await lease.run(PRINT, (), KeepingSink(), soon(11.0))
        assert lease.sandbox in backend.live  # nothing has been awaited since
        await everyone_has_acted()
        assert lease.sandbox not in backend.live


@in_virtual_time
async def test_the_answer_has_a_moment_before_the_sandbox_is_ended_unless_a_program_may_live_in_it():
    backend = FakeBackend()
    async with pool_of(backend, answer_first_seconds=0.5) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()) as lease:
            await lease.run(PRINT, (), KeepingSink(), soon(11.0))
        await anyio.sleep(0.4)
        assert lease.sandbox in backend.live
        await anyio.sleep(0.2)
        assert lease.sandbox not in backend.live
        async with pool.lease(deadline=soon()) as doubtful:
            pass
        await everyone_has_acted()
        assert doubtful.sandbox not in backend.live


@in_virtual_time
async def test_refill_waits_for_a_short_program_and_not_for_a_long_one():
    backend = FakeBackend()
    async with pool_of(backend, size=4, refill_eagerly=False) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()):
            await anyio.sleep(pool.settings.short_run_seconds / 2)
            async with pool.lease(deadline=soon()):
                await anyio.sleep(pool.settings.short_run_seconds * 0.9)
                assert (count(pool, State.READY), count(pool, State.STARTING)) == (2, 0)
                await until(lambda: (count(pool, State.READY), count(pool, State.LEASED)) == (4, 2))
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_a_lease_has_one_run_and_is_dead_after_it():
    async with pool_of(FakeBackend()) as pool:
        async with pool.lease(deadline=soon()) as lease:
            await lease.run(PRINT, (), KeepingSink(), soon(11.0))
            with pytest.raises(LocalProtocolError, match="one run a lease"):
                await lease.run(PRINT, (), KeepingSink(), soon(11.0))
        with pytest.raises(LocalProtocolError, match="has been released"):
            await lease.run(PRINT, (), KeepingSink(), soon(11.0))


@in_virtual_time
async def test_a_lease_that_was_not_used_is_retired_all_the_same():
    observer = CountingObserver()
    async with pool_of(FakeBackend(), observer) as pool:
        async with pool.lease(deadline=soon()):
            pass
        await full(pool)
    assert observer.words("retired")[:2] == ["canary", "unused"]
    assert observer.words("ran") == []


@in_virtual_time
async def test_who_comes_before_the_pool_is_warm_waits_for_it():
    observer = CountingObserver()
    async with pool_of(FakeBackend(), observer) as pool:
        outcome, _ = await ran(pool)
        assert outcome.exit_code == 0
    assert observer.words("granted") == [False]


@in_virtual_time
async def test_a_burst_of_twice_the_size_is_served():
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        await full(pool)
        async with anyio.create_task_group() as callers:
            for _ in range(2 * SETTINGS.size):
                callers.start_soon(ran, pool)
        await full(pool)
        assert pool.snapshot().runs == 4


@in_virtual_time
async def test_no_more_are_in_flight_than_allowed():
    backend = FakeBackend(start=shut)
    backend.next_starts.append(FakeSupervisor)
    async with pool_of(backend) as pool, anyio.create_task_group() as callers:
        await full(pool)
        for _ in range(5):
            callers.start_soon(ran, pool)
        await until(lambda: count(pool, State.LEASED) == 3 and count(pool, State.READY) == 2)
        assert repr(pool) == (
            "<SandboxPool [Slots: 0 starting, 2 ready, 0 probing, 3 leased, 0 recycling, 0 retiring"
            " | Waiting: 2 | Hold: none]>"
        )
        backend.start = FakeSupervisor
        for _ in range(5):
            for sandbox in list(backend.live.values()):
                sandbox.supervisor.finish()
            await everyone_has_acted()


# --- not getting one ---


@in_virtual_time
async def test_a_full_queue_is_told_at_once_with_numbers_and_a_time_to_come_back():
    backend, observer = FakeBackend(), CountingObserver()
    backend.gate = anyio.Event()
    async with pool_of(backend, observer, queue=1) as pool, anyio.create_task_group() as callers:
        callers.start_soon(ran, pool)
        await everyone_has_acted()
        began = anyio.current_time()
        with pytest.raises(PoolSaturated, match="1 waiting, limit 1") as refusal:
            await ran(pool)
        assert anyio.current_time() == began
        assert refusal.value.retry_after_seconds >= 1.0
        backend.gate.set()
    assert observer.words("refused") == ["saturated"]


@in_virtual_time
async def test_who_would_wait_in_vain_is_told_at_once_and_not_that_the_queue_is_full():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1, max_in_flight=1) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()):
            await anyio.sleep(20.0)
        await full(pool)
        async with pool.lease(deadline=soon()):
            began = anyio.current_time()
            with pytest.raises(PoolTimeout, match=r"0 waiting, limit 4; expected wait 20\.00 s") as refusal:
                await ran(pool)
            assert anyio.current_time() == began
            assert refusal.value.retry_after_seconds == pytest.approx(20.0)
    assert observer.words("refused") == ["timeout"]


@in_virtual_time
async def test_who_waits_in_vain_is_told_at_its_deadline_with_numbers():
    backend, observer = FakeBackend(), CountingObserver()
    backend.gate = anyio.Event()
    async with pool_of(backend, observer) as pool:
        began = anyio.current_time()
        with pytest.raises(PoolTimeout, match=r"waited 8.00 s; 1 waiting, limit 4") as refusal:
            await ran(pool)
        assert anyio.current_time() - began == pytest.approx(8.0)
        assert refusal.value.retry_after_seconds >= 1.0
        assert pool.snapshot().waiting == 0
    assert observer.words("refused") == ["timeout"]


@in_virtual_time
async def test_who_has_waited_in_vain_is_not_told_to_wait_for_itself():
    backend = FakeBackend()
    async with pool_of(backend, size=1, max_in_flight=1) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()):
            await anyio.sleep(20.0)
        await full(pool)
        async with pool.lease(deadline=soon()):
            with pytest.raises(PoolTimeout) as refusal:
                async with pool.lease(deadline=anyio.current_time() + 25.0):
                    raise AssertionError("there is one sandbox, and it is taken")
            # The lease is taken to last as long again as it has; nobody is before the one who asks again.
            assert refusal.value.retry_after_seconds == pytest.approx(25.0)


@in_virtual_time
async def test_a_pool_that_is_not_open_refuses():
    backend = FakeBackend()
    pool = SandboxPool(SETTINGS, RunLimits(), backend)
    with pytest.raises(PoolClosed):
        await ran(pool)
    async with pool:
        await full(pool)
    with pytest.raises(PoolClosed):
        await ran(pool)


# --- idle ones ---


@in_virtual_time
async def test_idle_sandboxes_are_probed_and_stay():
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        await full(pool)
        idle = list(backend.live.values())
        await anyio.sleep(100.0)
        assert list(backend.live.values()) == idle
        assert all(2 <= each.supervisor.pings <= 4 for each in idle)


@in_virtual_time
async def test_a_sandbox_is_not_probed_while_it_runs_a_program():
    backend = FakeBackend(start=shut)
    backend.next_starts.append(FakeSupervisor)
    async with pool_of(backend) as pool, anyio.create_task_group() as callers:
        await full(pool)
        leased = the_ready_one(pool, backend)
        program = Program(code="", timeout_ms=200_000)
        callers.start_soon(lambda: run_for(pool, program, 250.0))
        await anyio.sleep(100.0)
        assert leased.supervisor.pings == 0
        leased.supervisor.finish()


@in_virtual_time
async def test_idle_sandboxes_are_replaced_after_an_hour():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        idle = set(backend.live)
        await anyio.sleep(3700.0)
        await full(pool)
        assert not idle & set(backend.live)
    assert observer.words("retired")[:3] == ["canary", "age", "age"]


@in_virtual_time
async def test_a_new_generation_replaces_the_idle_ones_after_a_canary_of_its_own():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        old = set(backend.live)
        backend.renew()
        await until(lambda: pool.snapshot().generation == 2)  # at the next probe
        await full(pool)
        assert not old & set(backend.live)
    assert sorted(observer.words("retired")[:4]) == ["canary", "canary", "generation", "generation"]
