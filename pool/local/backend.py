"""Sandboxes on this machine: namespaced processes, forked from templates."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing

import anyio
import msgspec
from anyio.abc import TaskGroup

from pool.backend import Isolation, Sandbox
from pool.errors import SandboxStartFailed
from pool.local.cgroups import Group, Groups
from pool.local.environment import ProgramEnvironment
from pool.local.launch import Launcher, LaunchPlan
from pool.local.sandbox import LocalSandbox, SocketChannel
from pool.settings import RunLimits

FIRST_HOST_ID = 0x70000000
HOST_IDS = 0x100000
"""As root each sandbox gets a uid and gid from this range, in turn: far above what people, services and
the usual ranges for containers (/etc/subuid) use."""

RENEW_FORKS = 1000
RENEW_SECONDS = 600.0
"""Sandboxes forked from one template share its hash seed and memory layout. Renewed sooner, less can be
learned from one about the next; each renewal costs some 2 s of one core."""

REMOVE_GROUP_SECONDS = 2.0


class LocalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend is made with."""

    environment: ProgramEnvironment
    preload: tuple[str, ...]
    limits: RunLimits
    isolation: Isolation
    left_out: tuple[str, ...] = ()
    """See `LaunchPlan.left_out`: for tests of the lock-down only."""


class LocalBackend:
    """Makes a sandbox in about 10 ms: one fork of a template that has everything loaded, one of the nursery."""

    name = "local"

    def __init__(self, plan: LocalPlan, groups: Groups) -> None:
        self._plan, self._groups = plan, groups
        self._host_ids = itertools.cycle(range(FIRST_HOST_ID, FIRST_HOST_ID + HOST_IDS))
        self._generation = 0
        self._forks = 0
        self._renewal_due = anyio.Event()
        self._tasks: TaskGroup | None = None

    def isolation(self) -> Isolation:
        return self._plan.isolation

    def generation(self) -> int:
        return self._generation

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self._groups.open()
        try:
            self._launcher = await self._launched()
            try:
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    tasks.start_soon(self._keep_templates_young)
                    yield
                    tasks.cancel_scope.cancel()
            finally:
                await self._launcher.close()
        finally:
            self._groups.close()

    async def _launched(self) -> Launcher:
        plan = self._plan
        launcher = Launcher(
            LaunchPlan(
                environment=plan.environment,
                preload=plan.preload,
                group_parents=tuple(self._groups.parents),
                left_out=plan.left_out,
            )
        )
        await launcher.start()
        self._generation += 1
        self._forks = 0
        return launcher

    async def _keep_templates_young(self) -> None:
        while True:
            with anyio.move_on_after(RENEW_SECONDS):
                await self._renewal_due.wait()
            self._renewal_due = anyio.Event()
            await self._renew()

    async def _renew(self) -> None:
        await self._launcher.renew()
        self._generation += 1
        self._forks = 0

    async def create(self, slot: str, *, on_lost: Callable[[], None]) -> Sandbox:
        group = self._groups.make(slot, self._plan.limits)
        with ExitStack() as undo:
            undo.callback(self._remove, group)
            undo.callback(group.close_descriptors)
            handle, channel = await self._start(group)
            undo.pop_all()
        group.close_descriptors()
        self._count_fork()
        return LocalSandbox(slot, channel, handle, on_lost, lambda: self._remove(group))

    def _count_fork(self) -> None:
        self._forks += 1
        if self._forks >= RENEW_FORKS:
            self._renewal_due.set()

    async def _start(self, group: Group) -> tuple[int, SocketChannel]:
        """Fork a zygote, then a supervisor into its namespaces. On failure nothing is left but the group."""
        ours, theirs = socket.socketpair()
        with closing(theirs), ExitStack() as undo:
            undo.callback(ours.close)
            zygote_end, supervisor_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with closing(zygote_end), closing(supervisor_end):
                handle = await self._spawn(zygote_end, group)
                # From here on the zygote ends by itself when the supervisor's end of the pair is closed.
                undo.callback(os.close, handle)
                await self._supervise(handle, theirs, supervisor_end, group)
            undo.pop_all()
        return handle, SocketChannel(ours)

    async def _spawn(self, zygote_end: socket.socket, group: Group) -> int:
        words = {"do": "spawn", "host_id": next(self._host_ids), "limits": self._limits()}
        descriptors = await self._launcher.science.order(words, [zygote_end.fileno(), *group.enter])
        if len(descriptors) != 1:
            raise SandboxStartFailed(f"the template sent {len(descriptors)} descriptors, not 1", reason="launcher")
        return descriptors[0]

    async def _supervise(self, handle: int, theirs: socket.socket, supervisor_end: socket.socket, group: Group) -> None:
        words = {
            "do": "supervise",
            "limits": self._limits(),
            "preloaded": self._launcher.preloaded,
            "gauges": list(group.gauges),
        }
        own = [handle, theirs.fileno(), supervisor_end.fileno(), *group.gauges.values()]
        await self._launcher.nursery.order(words, own)

    def _limits(self) -> dict[str, int]:
        limits: dict[str, int] = msgspec.to_builtins(self._plan.limits)
        return limits

    def _remove(self, group: Group) -> None:
        """Remove the group's folders; a cgroup is busy for a moment after its last process was reaped."""
        if not group.remove() and self._tasks is not None:
            self._tasks.start_soon(self._remove_later, group)

    async def _remove_later(self, group: Group) -> None:
        for pause in _pauses(REMOVE_GROUP_SECONDS):
            await anyio.sleep(pause)
            if group.remove():
                return


def _pauses(total_seconds: float) -> Iterator[float]:
    pause = 0.002
    while total_seconds > 0:
        yield pause
        total_seconds -= pause
        pause *= 2
