"""Templates are renewed, by count and by age, and nobody notices but for another hash seed."""

from __future__ import annotations

import itertools
from pathlib import Path

import anyio
import msgspec
import pytest

from pool import PoolSettings
from pool.local.policy import UpkeepPolicy
from tests.integration.test_launcher_lost import of_generation, printed_by
from tests.local_backends import (
    eventually,
    keepers,
    kill,
    local_backend,
    output_of,
    sandbox_of,
    templates,
)
from tests.sandboxes import local_pool, plan

AFTER_TWO = UpkeepPolicy(renew_forks=2, first_pause_seconds=0.01)
HASH = "print(hash('a word'))"


async def test_a_renewal_is_due_after_so_many_forks():
    async with local_backend(changed={"policy": AFTER_TWO}) as backend, sandbox_of(backend, "one"):
        assert backend.generation() == 1
        async with sandbox_of(backend, "two"):
            await eventually(lambda: backend.generation() == 2)


async def test_a_renewal_is_due_at_an_age():
    async with local_backend(changed={"policy": UpkeepPolicy(renew_seconds=0.05)}) as backend:
        await eventually(lambda: backend.generation() >= 3)


async def test_sandboxes_of_the_old_template_live_on_and_it_ends_with_the_last_of_them():
    async with local_backend(changed={"policy": AFTER_TWO}) as backend:
        (older,) = templates()
        one = await backend.create("one", on_lost=lambda: None)
        two = await backend.create("two", on_lost=lambda: None)
        await eventually(lambda: backend.generation() == 2)
        assert templates()[0] == older
        assert len(templates()) == 2
        assert await output_of(one, "print('old')") == "old\n"
        await one.destroy()
        assert await output_of(two, "print('old too')") == "old too\n"
        await two.destroy()
        await eventually(lambda: older not in templates())
        async with sandbox_of(backend, "three") as three:
            assert await output_of(three, "print('new')") == "new\n"


async def test_a_template_without_sandboxes_ends_at_once():
    async with local_backend(changed={"policy": UpkeepPolicy(renew_seconds=0.5)}) as backend:
        (older,) = templates()
        await eventually(lambda: backend.generation() == 2)
        await eventually(lambda: older not in templates())


async def test_the_death_of_an_old_template_costs_its_own_sandboxes_only():
    async with local_backend(changed={"policy": AFTER_TWO}) as backend:
        lost = anyio.Event()
        older = await backend.create("one", on_lost=lost.set)
        async with sandbox_of(backend, "two"):
            await eventually(lambda: backend.generation() == 2)
            async with sandbox_of(backend, "three") as newer:
                kill(templates()[0])
                await lost.wait()
                assert await output_of(newer, "print('untouched')") == "untouched\n"
            await older.destroy()
        assert backend.generation() == 2


async def test_each_generation_has_its_own_hash_seed():
    async with local_backend(changed={"policy": AFTER_TWO}) as backend:
        hashes = []
        for number in range(4):
            await of_generation(backend, 1 + number // 2)
            async with sandbox_of(backend, f"sandbox-{number}") as sandbox:
                hashes.append(await output_of(sandbox, HASH))
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]


async def test_no_sandbox_fails_while_templates_are_renewed():
    async with local_backend(changed={"policy": UpkeepPolicy(renew_forks=3)}) as backend:
        printed: list[str] = []

        async def one_after_the_other(caller: int) -> None:
            for number in itertools.count():
                async with sandbox_of(backend, f"sandbox-{caller}-{number}") as sandbox:
                    printed.append(await output_of(sandbox, "print(1)"))
                if backend.generation() > 3:
                    return

        async with anyio.create_task_group() as tasks:
            for caller in range(6):
                tasks.start_soon(one_after_the_other, caller)
        assert set(printed) == {"1\n"}
        assert len(keepers()) == 1
        await eventually(lambda: len(templates()) == 1)


async def test_a_renewal_that_fails_leaves_the_old_template_in_use_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    environment = plan().environment
    python = tmp_path / "python"
    python.symlink_to(environment.python)
    movable = msgspec.structs.replace(environment, python=str(python))
    policy = UpkeepPolicy(renew_forks=1, first_pause_seconds=0.01)
    async with local_backend(changed={"policy": policy, "environment": movable}) as backend:
        (older,) = templates()
        python.unlink()
        for number in range(5):
            async with sandbox_of(backend, f"sandbox-{number}") as sandbox:
                assert await output_of(sandbox, "print(1)") == "1\n"
        assert (templates(), backend.generation()) == ([older], 1)
        python.symlink_to(environment.python)
        await eventually(lambda: backend.generation() >= 2)
        assert len(keepers()) == 1
    assert "no new template, the old one stays in use: the template has ended" in caplog.text


async def test_a_pool_rolls_its_idle_sandboxes_to_the_new_template():
    # More forks than the roll itself takes, or each would cause the next.
    policy = UpkeepPolicy(renew_forks=12)
    settings = PoolSettings(size=2, max_in_flight=4, max_unavailable=1)
    async with local_pool(msgspec.structs.replace(plan(), policy=policy), settings) as pool:
        (older,) = templates()
        while pool.backend.generation() == 1:
            assert await printed_by(pool) == "1\n"
        await eventually(lambda: older not in templates() and pool.snapshot().slots["ready"] == 2)
        assert await printed_by(pool) == "1\n"
