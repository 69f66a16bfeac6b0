"""Every coroutine that holds something, cancelled at every suspension point; afterwards the books are in order.

encode/httpcore#1093, MagicStack/asyncpg#464 and psycopg/psycopg#1275 were all found by hand, one place at
a time. Here the places are counted out: k = 1, 2, 3… until the coroutine completes before its k-th.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from pool import ANYBODY, Caller, Lease, Program, RunLimits, SandboxPool, StagedFile, State
from sandbox_runtime import wire
from tests.fakes.backend import FakeBackend, FakeSandbox
from tests.fakes.cancelling import Suspensions
from tests.fakes.clock import everyone_has_acted, in_virtual_time
from tests.fakes.pools import count, full, holds_together, nothing_is_left, pool_of, ran, soon
from tests.fakes.sinks import KeepingSink

Scenario = Callable[[SandboxPool, FakeBackend, Suspensions], Awaitable[None]]
MOST_SUSPENSIONS = 200


async def read() -> AsyncIterator[bytes]:
    yield b"x" * (wire.MAX_CHUNK_BYTES + 1)
    await asyncio.sleep(0)
    yield b"y"


WRITES = Program(code='print(input())\nwith open("out", "w") as out:\n    out.write("made")', stdin="in")


async def one_run(pool: SandboxPool) -> None:
    async with pool.lease(deadline=soon()) as lease:
        await lease.run(WRITES, [StagedFile(path="in", read=read)], KeepingSink(), soon(20.0))


async def cancelled(task: asyncio.Task[None]) -> None:
    """Let it come to its end, whichever."""
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


def task_of(suspensions: Suspensions, pool: SandboxPool) -> asyncio.Task[None]:
    # The one place where a test needs a bare task: a task group would take the cancellation for its own.
    return asyncio.get_running_loop().create_task(_driven(suspensions, pool))


async def _driven(suspensions: Suspensions, pool: SandboxPool) -> None:
    await suspensions.drive(one_run(pool))


# --- what is cancelled ---


async def a_run_in_a_warm_sandbox(pool: SandboxPool, backend: FakeBackend, suspensions: Suspensions) -> None:
    await full(pool)
    await cancelled(task_of(suspensions, pool))


async def a_run_that_first_waits_in_the_queue(
    pool: SandboxPool, backend: FakeBackend, suspensions: Suspensions
) -> None:
    await full(pool)
    backend.gate = anyio.Event()
    async with pool.lease(deadline=soon()), pool.lease(deadline=soon()):
        task = task_of(suspensions, pool)
        await everyone_has_acted()
        backend.gate.set()
        await cancelled(task)


SCENARIOS = [a_run_in_a_warm_sandbox, a_run_that_first_waits_in_the_queue]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_caller_cancelled_anywhere_loses_nothing(scenario: Scenario) -> None:
    assert every_suspension(partial(_played, scenario)) >= 5


class LeakyPool(SandboxPool):
    """As pools were before they learned: what is granted belongs to nobody until the `try` is entered."""

    @asynccontextmanager
    async def lease(self, *, deadline: float, caller: Caller = ANYBODY) -> AsyncIterator[Lease]:
        waiter = self._want(caller, deadline)
        await waiter.wait(deadline)
        try:
            yield self._in_hand(waiter, caller)
        finally:
            self._leave(waiter)


@pytest.mark.slow
def test_a_planted_leak_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SandboxPool, "lease", LeakyPool.lease)
    with pytest.raises(AssertionError, match=r"I5|never came to hold"):
        every_suspension(partial(_played, a_run_that_first_waits_in_the_queue))


def every_suspension(play: Callable[[Suspensions], None]) -> int:
    """Play it with k = 1, 2, 3… until nothing is left to cancel; returns how many suspensions there were."""
    for k in range(1, MOST_SUSPENSIONS):
        suspensions = Suspensions(strike_at=k)
        play(suspensions)
        if not suspensions.has_struck:
            return k - 1
    raise AssertionError("it suspends for ever")


@in_virtual_time
async def _played(scenario: Scenario, suspensions: Suspensions) -> None:
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        await scenario(pool, backend, suspensions)
        await everyone_has_acted()
        holds_together(pool, backend)
        await full(pool)
        assert len(backend.live) == pool.settings.size, "the backend holds what the ledger holds"
        outcome, _ = await ran(pool)
        assert outcome.exit_code == 0
    nothing_is_left(pool, backend)


@pytest.mark.parametrize("turns", range(4))
@in_virtual_time
async def test_a_caller_cancelled_in_the_moment_of_its_grant_gives_its_sandbox_back(turns: int) -> None:
    """encode/httpcore#1093: granted, and cancelled before (or just when) it runs again."""
    backend = FakeBackend()
    async with pool_of(backend, max_in_flight=1) as pool:
        await full(pool)
        first = pool.lease(deadline=soon())
        await first.__aenter__()
        task = task_of(Suspensions(strike_at=MOST_SUSPENSIONS), pool)
        await everyone_has_acted()
        assert pool.snapshot().waiting == 1
        await first.__aexit__(None, None, None)  # nothing is awaited in it: the grant is out, and nobody has run
        assert (pool.snapshot().waiting, count(pool, State.LEASED)) == (0, 1)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        holds_together(pool, backend)
        await full(pool)
    nothing_is_left(pool, backend)


# --- making and unmaking a sandbox ---


class InterruptedBackend(FakeBackend):
    """Loses its n-th sandbox at the k-th suspension of its start, for which the pool cancels that start."""

    def __init__(self, suspensions: Suspensions, *, nth: int) -> None:
        super().__init__()
        self._suspensions = suspensions
        self._calls = itertools.count(1)
        self._nth = nth

    async def create(
        self, slot: str, *, on_lost: Callable[[], None], on_cut: Callable[[], None], limits: RunLimits
    ) -> FakeSandbox:
        make = super().create(slot, on_lost=on_lost, on_cut=on_cut, limits=limits)
        if next(self._calls) != self._nth:
            return await make
        self._suspensions.strike = on_lost
        return await self._suspensions.drive(make)


@pytest.mark.parametrize("nth", [1, 2, 3], ids=["canary", "first", "second"])
def test_a_start_cancelled_anywhere_leaves_nothing_behind_and_is_made_good(nth: int) -> None:
    assert every_suspension(partial(_started, nth)) >= 2


@in_virtual_time
async def _started(nth: int, suspensions: Suspensions) -> None:
    backend = InterruptedBackend(suspensions, nth=nth)
    async with pool_of(backend) as pool:
        await everyone_has_acted()
        holds_together(pool, backend)
        await full(pool)
        assert len(backend.live) == pool.settings.size
        assert len(backend.created) == 3 + suspensions.has_struck
    nothing_is_left(pool, backend)


@pytest.mark.parametrize("turns", range(25))
@in_virtual_time
async def test_a_pool_closed_at_any_moment_of_its_start_leaves_nothing_behind(turns: int) -> None:
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        for _ in range(turns):
            await asyncio.sleep(0)
        holds_together(pool, backend)
    nothing_is_left(pool, backend)


@pytest.mark.parametrize("turns", range(25))
@in_virtual_time
async def test_a_pool_cancelled_at_any_moment_leaves_nothing_behind(turns: int) -> None:
    backend = FakeBackend()
    with anyio.CancelScope() as scope:
        async with pool_of(backend) as pool:
            await full(pool)
            async with anyio.create_task_group() as callers:
                callers.start_soon(one_run, pool)
                for _ in range(turns):
                    await asyncio.sleep(0)
                scope.cancel()
    nothing_is_left(pool, backend)


@pytest.mark.parametrize("turns", range(25))
@in_virtual_time
async def test_a_sandbox_lost_at_any_moment_of_a_run_is_replaced(turns: int) -> None:
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        await full(pool)
        task = asyncio.get_running_loop().create_task(one_run(pool))
        for _ in range(turns):
            await asyncio.sleep(0)
        for sandbox in [each for each in backend.live.values() if each.supervisor.programs]:
            sandbox.die()
        await asyncio.wait([task])
        holds_together(pool, backend)
        await full(pool)
        assert count(pool, State.READY) == len(backend.live)
    nothing_is_left(pool, backend)
