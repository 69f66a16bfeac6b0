"""Sandboxes on this machine: namespaced processes, forked from templates."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress

import anyio
import msgspec
from anyio.abc import TaskGroup

from pool.backend import Isolation, Sandbox, Target
from pool.errors import SandboxStartFailed
from pool.local import steps
from pool.local.cgroups import Group, Groups
from pool.local.environment import ProgramEnvironment
from pool.local.host_ids import HostIds
from pool.local.launch import Launcher, LaunchPlan
from pool.local.policy import UpkeepPolicy
from pool.local.sandbox import LocalSandbox, SocketChannel
from pool.local.upkeep import Upkeep
from pool.settings import RunLimits

REMOVE_GROUP_SECONDS = 2.0


class LocalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend is made with."""

    environment: ProgramEnvironment
    preload: tuple[str, ...]
    """Modules to load before a request comes. Without one of them there is no start."""
    preload_if_there: tuple[str, ...] = ()
    limits: RunLimits
    isolation: Isolation
    cleans: bool = False
    """See `LaunchPlan`."""
    left_out: tuple[str, ...] = ()
    """See `LaunchPlan.left_out`: for tests of the lock-down only."""
    policy: UpkeepPolicy = UpkeepPolicy()


def _nothing() -> None:
    """A channel here lives and dies with its sandbox."""


class LocalBackend:
    """Makes a sandbox in about 10 ms: one fork of a template that has everything loaded, one of the nursery."""

    name = "local"
    sessions = None

    def __init__(self, plan: LocalPlan, groups: Groups) -> None:
        self._plan, self._groups = plan, groups
        self._host_ids = HostIds()
        self._upkeep: Upkeep | None = None
        self._tasks: TaskGroup | None = None
        self._live: set[LocalSandbox] = set()

    def isolation(self) -> Isolation:
        return steps.isolation(self._plan.isolation, self._groups, self._plan.left_out)

    def generation(self) -> int:
        return self._upkeep.generation if self._upkeep else 0

    def held(self, reason: str, text: str) -> None:
        """Logs and metrics have it."""

    def unreachable(self) -> tuple[Target, ...]:
        return ()  # a network namespace without an interface

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self._groups.open()
        try:
            async with self._launching(Upkeep(self._launch_plan(), self._plan.policy)):
                yield
        finally:
            self._groups.close()

    @asynccontextmanager
    async def _launching(self, upkeep: Upkeep) -> AsyncIterator[None]:
        await upkeep.start()
        self._upkeep = upkeep
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(upkeep.run)
                self._tasks.start_soon(self._groups.shrink)
                yield
                self._tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            await upkeep.close()
            for sandbox in list(self._live):
                sandbox.let_go()

    def _launch_plan(self) -> LaunchPlan:
        plan = self._plan
        return LaunchPlan(
            environment=plan.environment,
            preload=plan.preload,
            preload_if_there=plan.preload_if_there,
            group_parents=tuple(self._groups.parents),
            starting_doors=tuple(self._groups.starting_doors),
            cleans=plan.cleans,
            left_out=plan.left_out,
        )

    async def create(
        self,
        slot: str,
        *,
        on_lost: Callable[[], None],
        on_cut: Callable[[], None] = _nothing,
        limits: RunLimits | None = None,
    ) -> Sandbox:
        if self._upkeep is None:
            raise SandboxStartFailed("the backend is not running", reason="launcher")
        launcher = self._upkeep.launcher()
        try:
            with ExitStack() as undo:
                sandbox = await self._create(launcher, slot, limits or self._plan.limits, on_lost, undo)
                undo.pop_all()
        except OSError as error:
            raise SandboxStartFailed(f"no sandbox could be made: {error}", reason="system") from error
        self._upkeep.count_fork()
        self._live.add(sandbox)
        return sandbox

    async def _create(
        self, launcher: Launcher, slot: str, limits: RunLimits, on_lost: Callable[[], None], undo: ExitStack
    ) -> LocalSandbox:
        host_id = self._host_ids.take()
        undo.callback(self._host_ids.give_back, host_id)
        group = self._groups.make(slot, limits)
        undo.callback(self._remove, group)
        # For some 10 ms: a zygote that is under way has no owner yet who could end it and know that it has
        # ended. Never for long: each order has its deadline.
        with anyio.CancelScope(shield=True):
            handle, channel = await self._start(launcher, group, host_id, msgspec.to_builtins(limits))
        group.close_descriptors()
        return LocalSandbox(slot, channel, handle, on_lost, lambda gone: self._bury(gone, group, host_id))

    async def _start(
        self, launcher: Launcher, group: Group, host_id: int, limits: dict[str, int]
    ) -> tuple[int, SocketChannel]:
        """Fork a zygote, then a supervisor into its namespaces. On failure nothing is left but the group."""
        ours, theirs = socket.socketpair()
        with closing(theirs), ExitStack() as undo:
            undo.callback(ours.close)
            zygote_end, supervisor_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # A zygote whose supervisor's end of the pair is closed ends by itself.
            with closing(zygote_end), closing(supervisor_end):
                handle = await launcher.spawn(host_id, limits, [zygote_end.fileno(), *group.enter])
                undo.callback(_kill, handle)
                await launcher.supervise(limits, group.gauges, [handle, theirs.fileno(), supervisor_end.fileno()])
            undo.pop_all()
        return handle, SocketChannel(ours)

    def _bury(self, gone: LocalSandbox, group: Group, host_id: int) -> None:
        self._live.discard(gone)
        self._host_ids.give_back(host_id)
        self._remove(group)

    def _remove(self, group: Group) -> None:
        """Remove the group's folders; a cgroup is busy for a moment after its last process was reaped."""
        if not group.remove() and self._tasks is not None:
            self._tasks.start_soon(self._remove_later, group)

    async def _remove_later(self, group: Group) -> None:
        for pause in _pauses(REMOVE_GROUP_SECONDS):
            await anyio.sleep(pause)
            if group.remove():
                return


def _kill(handle: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)


def _pauses(total_seconds: float) -> Iterator[float]:
    pause = 0.002
    while total_seconds > 0:
        yield pause
        total_seconds -= pause
        pause *= 2
