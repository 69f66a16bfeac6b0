"""Sandboxes of the local backend, made and ended by the real launcher."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from pool.errors import SandboxLost, SandboxStartFailed
from pool.local import LocalBackend
from tests.hostile.aftermath import descendants, mounts
from tests.local_backends import (
    Dialogue,
    children,
    code,
    eventually,
    keepers,
    local_backend,
    output_of,
    sandbox_of,
    start,
    templates,
)

MANY = 50


def nothing() -> None:
    pass


def belongings(backend: LocalBackend) -> dict[str, object]:
    """All that a sandbox could leave behind."""
    return {
        "processes": len(descendants(os.getpid())),
        "descriptors": len(open_descriptors()),
        "mounts": mounts(),
        "processes in cgroups": [len(_members(parent)) for parent in backend._groups.parents],
        "descriptors of the launcher": [_descriptors(each.pid) for each in descendants(os.getpid())],
    }


def open_descriptors() -> list[str]:
    """All but eventfds: each cgroup folder that is kept for the next sandbox has one."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [each for each in found if each != "anon_inode:[eventfd]"]


def _uid(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")]
    return int(line.split()[1])


def _members(parent: str) -> list[str]:
    return [line for file in Path(parent).glob("*/cgroup.procs") for line in file.read_text().splitlines()]


def _descriptors(pid: int) -> int:
    """Not to be told of a process whose user is another, or who is not dumpable, to anybody but root."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return 0


async def made_and_ended(backend: LocalBackend, name: str) -> None:
    async with sandbox_of(backend, name) as sandbox:
        await Dialogue(sandbox.channel).hello()


async def settled(backend: LocalBackend) -> dict[str, object]:
    """What it owns after its first sandbox, which fills the caches."""
    await made_and_ended(backend, "the first")
    await eventually(lambda: children(templates()[0]) == [])
    return belongings(backend)


async def restored(backend: LocalBackend, before: dict[str, object]) -> None:
    """What it owned before is what it owns again, soon."""
    with suppress(TimeoutError):
        await eventually(lambda: belongings(backend) == before, within_seconds=5.0)
    assert belongings(backend) == before


async def test_a_sandbox_leaves_nothing_behind():
    async with local_backend() as backend:
        before = await settled(backend)
        for number in range(MANY):
            await made_and_ended(backend, f"sandbox-{number}")
        await restored(backend, before)


async def many_at_once(backend: LocalBackend, names: str) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(MANY):
            tasks.start_soon(made_and_ended, backend, f"{names}-{number}")


async def test_many_at_once_leave_nothing_behind():
    async with local_backend() as backend:
        await many_at_once(backend, "first")
        await eventually(lambda: children(templates()[0]) == [])
        before = belongings(backend)
        await many_at_once(backend, "second")
        await restored(backend, before)


async def test_a_backend_leaves_nothing_behind_with_sandboxes_still_alive():
    descriptors = len(os.listdir("/proc/self/fd"))
    async with local_backend() as backend:
        parents = backend._groups.parents
        idle = await backend.create("idle", on_lost=nothing)
        busy = await backend.create("busy", on_lost=nothing)
        await output_of(idle, "print('it has run')")
        await Dialogue(busy.channel).say(code("while True: pass"), start())
    assert keepers() == []
    assert not any(map(os.path.exists, parents))
    assert len(os.listdir("/proc/self/fd")) == descriptors
    await busy.destroy()


async def test_a_sandbox_that_dies_is_told_of_once():
    told: list[str] = []
    lost = anyio.Event()

    def on_lost() -> None:
        told.append("lost")
        lost.set()

    async with local_backend() as backend:
        sandbox = await backend.create("one", on_lost=on_lost)
        (zygote,) = children(templates()[0])
        os.kill(zygote, signal.SIGKILL)
        await lost.wait()
        await sandbox.destroy()
        await made_and_ended(backend, "another")
    assert told == ["lost"]


async def test_a_sandbox_that_is_destroyed_is_not_lost():
    told: list[str] = []
    async with local_backend() as backend:
        sandbox = await backend.create("one", on_lost=lambda: told.append("lost"))
        await sandbox.destroy()
        await made_and_ended(backend, "another")
    assert told == []


async def test_destroying_twice_is_destroying_once():
    async with local_backend() as backend:
        sandbox = await backend.create("one", on_lost=nothing)
        await sandbox.destroy()
        await sandbox.destroy()
        assert children(templates()[0]) == []


async def test_destroying_twice_at_once_is_destroying_once():
    async with local_backend() as backend:
        sandbox = await backend.create("one", on_lost=nothing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sandbox.destroy)
            tasks.start_soon(sandbox.destroy)
        assert children(templates()[0]) == []


async def test_a_destroy_that_was_cancelled_can_be_asked_for_again():
    async with local_backend() as backend:
        before = await settled(backend)
        sandbox = await backend.create("one", on_lost=nothing)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await sandbox.destroy()
        assert scope.cancelled_caught
        await sandbox.destroy()
        await restored(backend, before)


@pytest.mark.parametrize("how", ["destroyed", "killed and destroyed"])
async def test_whoever_listens_to_a_sandbox_that_is_destroyed_is_told(how: str):
    # With the descriptor closed under it, the listener's clean-up would silence whoever has its number next.
    heard: list[str] = []

    async def listen(dialogue: Dialogue) -> None:
        with pytest.raises(SandboxLost):
            await dialogue.hear()
        heard.append("the end")

    async with local_backend() as backend:
        lost = anyio.Event()
        sandbox = await backend.create("one", on_lost=lost.set)
        dialogue = Dialogue(sandbox.channel)
        await dialogue.hello()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, dialogue)
            await anyio.lowlevel.checkpoint()
            if how != "destroyed":
                os.kill(children(templates()[0])[0], signal.SIGKILL)
                await lost.wait()
            await sandbox.destroy()
            assert await output_of(await backend.create("next", on_lost=nothing), "print(1)") == "1\n"
    assert heard == ["the end"]


async def test_as_root_no_two_sandboxes_have_the_same_uid():
    async with local_backend() as backend, sandbox_of(backend, "one") as one, sandbox_of(backend, "two") as two:
        await Dialogue(one.channel).hello()
        await Dialogue(two.channel).hello()
        zygotes = children(templates()[0])
        uids = {_uid(zygote) for zygote in zygotes}
    assert len(zygotes) == 2
    assert len(uids) == (2 if os.geteuid() == 0 else 1)
    assert 0 not in uids


async def test_without_a_running_backend_there_is_no_sandbox():
    async with local_backend() as backend:
        pass
    with pytest.raises(SandboxStartFailed, match="closed"):
        await backend.create("one", on_lost=nothing)


@contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """This process may open so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(descriptors):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_too_few_descriptors_cost_one_sandbox_and_nothing_else():
    async with local_backend() as backend, sandbox_of(backend, "before") as before:
        dialogue = Dialogue(before.channel)
        await dialogue.hello()
        await made_and_ended(backend, "the first, which fills the caches")
        await eventually(lambda: len(children(templates()[0])) == 1)
        belonging = belongings(backend)
        failures = 0
        for room in range(16):
            with room_for(room):
                try:
                    sandbox = await backend.create(f"with room for {room}", on_lost=nothing)
                except SandboxStartFailed:
                    failures += 1
                    continue
                await sandbox.destroy()
        assert 0 < failures < 16
        await restored(backend, belonging)
        assert await dialogue.output_of("print(1)") == "1\n"
        assert backend.generation() == 1
