"""Runs by id: one of each, cancelled by its own caller only."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from broker.errors import ExecutionCancelled, ExecutionExists, ExecutionMissing
from broker.executions import Executions
from tests.fakes.clock import everyone_has_acted, in_virtual_time


async def run(executions: Executions, ended: list[str], seconds: float = 100.0) -> None:
    try:
        with executions.running("caller", "id"):
            await anyio.sleep(seconds)
        ended.append("well")
    except ExecutionCancelled:
        ended.append("cancelled")


@in_virtual_time
async def test_a_cancelled_run_has_ended_when_the_canceller_hears_of_it() -> None:
    executions, ended = Executions(), list[str]()
    async with anyio.create_task_group() as group:
        group.start_soon(run, executions, ended)
        await everyone_has_acted()
        await executions.cancel("caller", "id")
        assert len(executions) == 0
    assert ended == ["cancelled"]


@in_virtual_time
async def test_a_running_id_is_refused_and_an_ended_one_is_free() -> None:
    executions = Executions()
    with executions.running("caller", "id"):
        with pytest.raises(ExecutionExists), executions.running("caller", "id"):
            raise AssertionError("two of one id")
        with executions.running("another", "id"):
            assert len(executions) == 2
    with executions.running("caller", "id"):
        assert len(executions) == 1


@pytest.mark.parametrize(("caller", "name"), [("another", "id"), ("caller", "other"), ("caller", "../id")])
@in_virtual_time
async def test_what_is_not_the_callers_is_not_found_and_goes_on(caller: str, name: str) -> None:
    executions, ended = Executions(), list[str]()
    async with anyio.create_task_group() as group:
        group.start_soon(run, executions, ended)
        await everyone_has_acted()
        with pytest.raises(ExecutionMissing):
            await executions.cancel(caller, name)
    assert ended == ["well"]


@in_virtual_time
async def test_a_run_that_fails_or_is_cancelled_from_outside_says_so_itself() -> None:
    executions = Executions()
    with pytest.raises(ZeroDivisionError), executions.running("caller", "id"):
        raise ZeroDivisionError
    with anyio.CancelScope() as outer, executions.running("caller", "id"):
        outer.cancel()
        await anyio.sleep_forever()
    assert outer.cancelled_caught
    assert len(executions) == 0


@in_virtual_time
async def test_a_canceller_does_not_wait_for_ever() -> None:
    executions = Executions()
    async with anyio.create_task_group() as group:
        group.start_soon(stubborn, executions)
        await everyone_has_acted()
        began = anyio.current_time()
        await executions.cancel("caller", "id")
        assert anyio.current_time() - began == pytest.approx(12)


async def stubborn(executions: Executions) -> None:
    with suppress(ExecutionCancelled), executions.running("caller", "id"):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1000)
        await anyio.sleep(1)
