"""Making a sandbox, cancelled wherever it waits: nothing is left of it, and the next one is made."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable

import anyio
import pytest

from pool.backend import Sandbox
from pool.errors import SandboxStartFailed
from pool.local import LocalBackend
from tests.fakes.cancelling import Suspensions
from tests.integration.test_local_backend import nothing, restored, settled
from tests.local_backends import Dialogue, local_backend, nursery, output_of, sandbox_of, templates

MOST_SUSPENSIONS = 50

Cancel = Callable[[LocalBackend, Suspensions], Awaitable[Sandbox | None]]


async def by_its_scope(backend: LocalBackend, suspensions: Suspensions) -> Sandbox | None:
    """As the pool does it."""
    with anyio.CancelScope() as scope:
        suspensions.strike = scope.cancel
        made: Sandbox = await suspensions.drive(backend.create("cancelled", on_lost=nothing))
        return made
    return None


async def test_cancelled_by_its_scope_it_comes_to_its_end_first():
    # Given up half-way, nobody would know when the zygote is gone whose uid and cgroup the next sandbox gets.
    async with local_backend() as backend:
        for strike_at in (1, 2):
            suspensions = Suspensions(strike_at)
            made = await by_its_scope(backend, suspensions)
            assert suspensions.has_struck
            assert made is not None
            await made.destroy()


async def by_its_task(backend: LocalBackend, suspensions: Suspensions) -> Sandbox | None:
    """As nobody should: past every shield."""

    async def driven() -> Sandbox:
        made: Sandbox = await suspensions.drive(backend.create("cancelled", on_lost=nothing))
        return made

    # The one place where a test needs a bare task: a task group would take the cancellation for its own.
    task = asyncio.get_running_loop().create_task(driven())
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


@pytest.mark.parametrize("cancel", [by_its_scope, by_its_task])
async def test_cancelled_anywhere_it_leaves_nothing_behind(cancel: Cancel):
    struck = 0
    async with local_backend() as backend:
        before = await settled(backend)
        for strike_at in itertools.count(1):
            assert strike_at < MOST_SUSPENSIONS
            suspensions = Suspensions(strike_at)
            made = await cancel(backend, suspensions)
            if made is not None:
                await made.destroy()
            async with sandbox_of(backend, f"after {strike_at}") as sandbox:
                assert await output_of(sandbox, "print('works')") == "works\n"
            await restored(backend, before)
            if not suspensions.has_struck:
                break
            struck += 1
    assert struck >= 2


@pytest.mark.parametrize("part", [nursery, lambda: templates()[0]], ids=["nursery", "template"])
async def test_a_launcher_lost_in_any_of_its_waits_leaves_nothing_behind(part: Callable[[], int]):
    # Killed when the order is under way: it may have been carried out, and may not.
    for strike_at in (1, 2):
        async with local_backend() as backend:
            before = await settled(backend)
            suspensions = Suspensions(strike_at)
            suspensions.strike = lambda: os.kill(part(), signal.SIGKILL)
            try:
                sandbox = await suspensions.drive(backend.create("one", on_lost=nothing))
            except SandboxStartFailed:
                pass
            else:
                await sandbox.destroy()
            while backend.generation() == 1:
                await anyio.lowlevel.checkpoint()
            await restored(backend, before)
            async with sandbox_of(backend, "after") as after:
                await Dialogue(after.channel).hello()
