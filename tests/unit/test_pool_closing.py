"""How a pool closes: what runs may finish, nobody waits in vain, and nothing is left."""

from __future__ import annotations

import anyio
import pytest

from pool import (
    PoolClosed,
    Program,
    SandboxLost,
    SandboxPool,
)
from pool.backend import Channel
from pool.errors import ChannelLost
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import everyone_has_acted, in_virtual_time, until
from tests.fakes.pools import (
    CountingObserver,
    full,
    is_full,
    nothing_is_left,
    pool_of,
    ran,
    run_for,
    the_ready_one,
)
from tests.fakes.supervisor import FakeSupervisor, shut


@in_virtual_time
async def test_close_lets_programs_finish():
    backend = FakeBackend(start=shut)
    backend.next_starts.append(FakeSupervisor)
    ended: list[int | None] = []

    async def caller(pool: SandboxPool) -> None:
        outcome, _ = await ran(pool)
        ended.append(outcome.exit_code)

    async with anyio.create_task_group() as callers:
        async with pool_of(backend) as pool:
            await full(pool)
            leased = the_ready_one(pool, backend)
            callers.start_soon(caller, pool)
            await everyone_has_acted()
            callers.start_soon(finish_later, leased.supervisor)
        assert ended == [0]
    nothing_is_left(pool, backend)


async def no_channel() -> Channel:
    raise ChannelLost("there is no other")


@in_virtual_time
async def test_a_sandbox_that_keeps_its_outcome_is_told_that_it_has_come_before_it_is_ended():
    backend = FakeBackend()
    backend.reconnect = no_channel
    async with pool_of(backend) as pool:
        await full(pool)
        leased = the_ready_one(pool, backend)
        await ran(pool)
        await until(lambda: leased.name not in backend.live)
    assert leased.supervisor.acknowledged == [run for run, _ in leased.supervisor.heard_runs]


async def finish_later(supervisor: FakeSupervisor) -> None:
    await anyio.sleep(5.0)
    supervisor.finish()


@in_virtual_time
async def test_close_cuts_programs_when_the_grace_is_over():
    backend, observer = FakeBackend(start=shut), CountingObserver()
    backend.next_starts.append(FakeSupervisor)
    ended: list[str] = []

    async def caller(pool: SandboxPool) -> None:
        try:
            await run_for(pool, Program(code="", timeout_ms=200_000), 250.0)
        except SandboxLost as error:
            ended.append(str(error))

    async with anyio.create_task_group() as callers:
        async with pool_of(backend, observer, drain_seconds=3.0) as pool:
            await full(pool)
            callers.start_soon(caller, pool)
            await everyone_has_acted()
            began = anyio.current_time()
        assert anyio.current_time() - began == pytest.approx(3.0)
        nothing_is_left_but_the_holder(pool, backend)
    assert len(ended) == 1
    assert observer.words("ran") == ["lost"]
    nothing_is_left(pool, backend)


def nothing_is_left_but_the_holder(pool: SandboxPool, backend: FakeBackend) -> None:
    assert len(pool._ledger.slots) == 0
    assert backend.live == {}


@in_virtual_time
async def test_close_tells_who_waits():
    backend, observer = FakeBackend(), CountingObserver()
    backend.gate = anyio.Event()
    told: list[str] = []

    async def caller(pool: SandboxPool) -> None:
        try:
            await ran(pool)
        except PoolClosed as error:
            told.append(str(error))

    async with anyio.create_task_group() as callers, pool_of(backend, observer) as pool:
        callers.start_soon(caller, pool)
        await everyone_has_acted()
    assert len(told) == 1
    assert observer.words("refused") == ["closed"]
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_a_newcomer_is_refused_while_the_pool_drains():
    backend = FakeBackend(start=shut)
    backend.next_starts.append(FakeSupervisor)
    refused: list[str] = []

    async def newcomer(pool: SandboxPool, leased: FakeSupervisor) -> None:
        await until(lambda: pool.snapshot().closing)
        try:
            await ran(pool)
        except PoolClosed as error:
            refused.append(str(error))
        leased.finish()

    async with anyio.create_task_group() as callers, pool_of(backend) as pool:
        await full(pool)
        leased = the_ready_one(pool, backend)
        callers.start_soon(ran, pool)
        callers.start_soon(newcomer, pool, leased.supervisor)
        await everyone_has_acted()
    assert len(refused) == 1


async def failing(pool: SandboxPool) -> None:
    async with pool:
        await full(pool)
        raise ValueError("of the caller's")


@in_virtual_time
async def test_an_error_in_the_body_comes_out_as_it_is_and_leaves_nothing_behind():
    backend = FakeBackend()
    pool = pool_of(backend)
    with pytest.raises(ValueError, match="of the caller's"):
        await failing(pool)
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_a_cancelled_pool_leaves_nothing_behind():
    backend = FakeBackend(start=shut)
    backend.next_starts.append(FakeSupervisor)
    with anyio.move_on_after(20.0):
        async with pool_of(backend) as pool:
            await full(pool)
            await run_for(pool, Program(code="", timeout_ms=200_000), 250.0)
    nothing_is_left(pool, backend)
    assert not is_full(pool)
