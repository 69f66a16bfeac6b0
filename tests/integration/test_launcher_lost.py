"""The launcher, or a part of it, dies or hangs: the backend makes do with another, and says so meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

from pool import Program, SandboxPool
from pool.errors import SandboxLost, SandboxStartFailed
from pool.local import LocalBackend
from pool.local.policy import UpkeepPolicy
from tests.hostile.aftermath import descendants, processes
from tests.integration.test_local_backend import open_descriptors
from tests.local_backends import (
    Dialogue,
    code,
    eventually,
    keeper,
    keepers,
    kill,
    local_backend,
    nursery,
    output_of,
    sandbox_of,
    start,
    templates,
)
from tests.sandboxes import Gathering, local_pool, plan

QUICK = UpkeepPolicy(order_seconds=0.5, first_pause_seconds=0.01)
# By far too slow to be seen in a test: whoever waits for it has not noticed a death.
PATIENT = UpkeepPolicy(order_seconds=600.0, first_pause_seconds=0.01)

Part = Callable[[], int]


def template() -> int:
    return templates()[-1]


PARTS = [keeper, nursery, template]
as_each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)


async def of_generation(backend: LocalBackend, generation: int) -> None:
    await eventually(lambda: backend.generation() == generation)


async def makes_sandboxes_again(backend: LocalBackend, generation: int) -> None:
    await of_generation(backend, generation)
    async with sandbox_of(backend, f"of generation {generation}") as sandbox:
        assert await output_of(sandbox, "print('works')") == "works\n"


@as_each_part
async def test_a_dead_part_is_replaced_with_all_its_sandboxes(part: Part):
    async with local_backend(changed={"policy": PATIENT}) as backend:
        idle_lost, busy_lost = anyio.Event(), anyio.Event()
        idle = await backend.create("idle", on_lost=idle_lost.set)
        busy = await backend.create("busy", on_lost=busy_lost.set)
        await Dialogue(busy.channel).say(code("while True: pass"), start())
        former = keeper()
        kill(part())
        await idle_lost.wait()
        await busy_lost.wait()
        await makes_sandboxes_again(backend, 2)
        assert keeper() != former
        await idle.destroy()
        await busy.destroy()


@as_each_part
async def test_a_hanging_part_costs_nobody_anything_until_it_is_needed(part: Part):
    async with local_backend(changed={"policy": QUICK}) as backend, sandbox_of(backend, "before") as before:
        hanging = part()
        kill(hanging, signal.SIGSTOP)
        assert await output_of(before, "print('lives on')") == "lives on\n"
        kill(hanging, signal.SIGCONT)
        await makes_sandboxes_again(backend, 1)


@pytest.mark.parametrize("part", [nursery, template], ids=lambda part: part.__name__)
async def test_a_hanging_part_is_replaced_when_an_order_gets_no_answer(part: Part):
    async with local_backend(changed={"policy": QUICK}) as backend:
        kill(part(), signal.SIGSTOP)
        with pytest.raises(SandboxStartFailed, match=r"gave no answer within 0\.5 s"):
            await backend.create("one", on_lost=lambda: None)
        await makes_sandboxes_again(backend, 2)


async def test_a_hanging_keeper_does_not_keep_the_service_from_ending():
    policy = UpkeepPolicy(end_seconds=0.2)
    async with local_backend(changed={"policy": policy}) as backend, sandbox_of(backend):
        hanging = keeper()
        kill(hanging, signal.SIGSTOP)
    assert keepers() == []
    assert hanging not in processes()


async def test_while_there_is_no_launcher_the_reason_is_told_at_once():
    async with local_backend(
        changed={"policy": msgspec.structs.replace(PATIENT, restarts=1, window_seconds=600.0)}
    ) as backend:
        for generation in (1, 2):
            await of_generation(backend, generation)
            lost = keepers()
            kill(template())
            await eventually(partial(are_gone, lost))  # the first is replaced at once
        with pytest.raises(
            SandboxStartFailed, match=r"the launcher was lost \(the .* has ended\); another is being started"
        ) as told:
            await backend.create("one", on_lost=lambda: None)
        assert told.value.reason == "launcher"


def are_gone(pids: list[int]) -> bool:
    return not set(pids) & set(keepers())


async def test_a_lost_launcher_is_logged(caplog: pytest.LogCaptureFixture):
    async with local_backend(changed={"policy": PATIENT}) as backend:
        kill(template())
        await makes_sandboxes_again(backend, 2)
    assert "the launcher was lost with all its sandboxes: the template has ended" in caplog.text


async def test_the_cgroups_outlive_a_launcher_that_is_replaced_and_not_the_service():
    async with local_backend(changed={"policy": PATIENT}) as backend:
        parents = backend._groups.parents
        kill(nursery())
        await makes_sandboxes_again(backend, 2)
        assert backend._groups.parents == parents
        assert all(map(os.path.isdir, parents))
    assert not any(map(os.path.exists, parents))


async def test_a_launcher_that_cannot_be_started_again_is_tried_again(tmp_path: Path):
    environment = plan().environment
    python = tmp_path / "python"
    python.symlink_to(environment.python)
    movable = msgspec.structs.replace(environment, python=str(python))
    policy = msgspec.structs.replace(PATIENT, restarts=100)
    async with local_backend(changed={"policy": policy, "environment": movable}) as backend:
        python.unlink()
        kill(template())
        await eventually(lambda: "could not be started" in backend_reason(backend))
        python.symlink_to(environment.python)
        await makes_sandboxes_again(backend, 2)


def backend_reason(backend: LocalBackend) -> str:
    assert backend._upkeep is not None
    try:
        backend._upkeep.launcher()
    except SandboxStartFailed as error:
        return str(error)
    return ""


async def test_nothing_is_left_of_launchers_lost_in_a_row():
    policy = msgspec.structs.replace(PATIENT, restarts=100, first_pause_seconds=0.0)
    async with local_backend(changed={"policy": policy}) as backend:
        await makes_sandboxes_again(backend, 1)
        before = len(open_descriptors()), len(descendants(os.getpid()))
        for generation in range(2, 8):
            kill(PARTS[generation % 3]())
            await makes_sandboxes_again(backend, generation)
        # At most: what was just ended may still have been there when it was counted.
        await eventually(lambda: len(descendants(os.getpid())) <= before[1])
        assert len(open_descriptors()) <= before[0]


@as_each_part
async def test_a_pool_serves_again_after_its_launcher_was_lost(part: Part):
    async with local_pool(msgspec.structs.replace(plan(), policy=PATIENT)) as pool:
        assert await printed_by(pool) == "1\n"
        kill(part())
        assert await printed_by(pool) == "1\n"


async def printed_by(pool: SandboxPool) -> str:
    """Of the first run that is not lost with its sandbox."""
    while True:
        sink = Gathering()
        async with pool.lease(deadline=anyio.current_time() + 30) as lease:
            try:
                await lease.run(Program(code="print(1)"), (), sink, anyio.current_time() + 15)
            except SandboxLost:
                continue
        return sink.streams["stdout"].decode()
