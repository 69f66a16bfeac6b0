"""A program that takes its whole sandbox along, for want of memory: that is an outcome, and no lost sandbox."""

from __future__ import annotations

import anyio
import pytest

from pool import Reason, SandboxLost
from tests.fakes import faults
from tests.fakes.backend import FakeSandbox, with_one
from tests.fakes.clock import in_virtual_time
from tests.fakes.pools import CountingObserver, full, pool_of, ran, the_ready_one

RUN_SECONDS = 1.0


async def die_of_memory(sandbox: FakeSandbox) -> None:
    await anyio.sleep(RUN_SECONDS)
    sandbox.was_out_of_memory = True
    sandbox.die()


async def die(sandbox: FakeSandbox) -> None:
    await anyio.sleep(RUN_SECONDS)
    sandbox.die()


@in_virtual_time
async def test_a_sandbox_that_ran_out_of_memory_is_the_programs_end_by_oom():
    backend, observer = with_one(faults.FallsSilent), CountingObserver()
    async with pool_of(backend, observer) as pool, anyio.create_task_group() as others:
        await full(pool)
        others.start_soon(die_of_memory, the_ready_one(pool, backend))
        outcome, _ = await ran(pool)
        await full(pool)
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (Reason.OOM, 137, "SIGKILL")
    assert outcome.limits_hit == ("memory",)
    assert outcome.duration_ms == round(RUN_SECONDS * 1000)
    assert observer.words("ran") == ["oom"]


@in_virtual_time
async def test_a_sandbox_that_ran_out_of_memory_is_used_by_no_other_program():
    backend, observer = with_one(faults.FallsSilent), CountingObserver()
    async with pool_of(backend, observer, size=1, max_runs_per_sandbox=3) as pool, anyio.create_task_group() as others:
        await full(pool)
        dying = the_ready_one(pool, backend)
        others.start_soon(die_of_memory, dying)
        await ran(pool)
        await full(pool)
        assert dying.name not in backend.live
    assert observer.words("cleaned") == []


@in_virtual_time
async def test_a_sandbox_that_died_otherwise_is_lost():
    backend = with_one(faults.FallsSilent)
    async with pool_of(backend) as pool, anyio.create_task_group() as others:
        await full(pool)
        others.start_soon(die, the_ready_one(pool, backend))
        with pytest.raises(SandboxLost):
            await ran(pool)
