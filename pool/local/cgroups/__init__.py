"""cgroups for the sandboxes of this service: memory, processes and CPU, capped by the kernel itself.

    <our cgroup>/code-interpreter-<pid>-<start>-<n>/<sandbox>     in each hierarchy

Only the program enters its sandbox's cgroup, not the processes that watch over it. Where a controller
cannot be had the others are used, and `Groups.missing` names it.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import anyio

from pool.errors import SandboxStartFailed
from pool.local.cgroups import names
from pool.local.cgroups.branch import Branch
from pool.local.cgroups.delegation import Delegation
from pool.local.cgroups.folders import Folders
from pool.local.cgroups.group import Group
from pool.local.cgroups.threshold import THREADS
from pool.local.cgroups.tree import CONTROLLERS, Hierarchy, usable
from pool.settings import RunLimits

__all__ = ["Group", "Groups", "find"]

MAX_IDLE = 32
"""Folders kept for the next sandbox: taking one costs a fraction of making and removing one, and its threshold is
registered already. More help larger bursts; each holds some 20 KiB of the kernel's memory and one descriptor."""
IDLE_SECONDS = 5.0
"""Those that were not needed in such a time are removed. Longer keeps them for the next burst; shorter makes them
anew between requests that come now and then."""


def find() -> Groups:
    """The cgroups that can be had here. Changes nothing yet."""
    return Groups(usable(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()))


class Groups:
    """All cgroups of this service. `open`, then `make` one for each sandbox, then `close`."""

    def __init__(self, hierarchies: tuple[Hierarchy, ...]) -> None:
        self._hierarchies = hierarchies
        self._branches: list[Branch] = []
        self._delegations: list[Delegation] = []
        self._idle: deque[Folders] = deque()
        self._fewest_idle = 0
        """Since `shrink` looked last."""
        self._threads = _sleepers()
        self.missing = self._missing([name for hierarchy in hierarchies for name in hierarchy.controllers])

    @property
    def parents(self) -> list[str]:
        """Our folders: who outlives the service removes them, with the folders in them."""
        return [branch.path for branch in self._branches]

    @property
    def starting_doors(self) -> list[str]:
        return [door for branch in self._branches for door in branch.starting_doors]

    def _missing(self, there: list[str]) -> tuple[str, ...]:
        absent = tuple(f"{name} cgroup" for name in CONTROLLERS if name not in there)
        return absent if all(branch.has_quota for branch in self._branches) else (*absent, "cpu quota")

    def open(self) -> None:
        """Make our folders, after removing those of services that died. What is refused becomes missing."""
        name = names.new_name()
        for hierarchy in self._hierarchies:
            try:
                self._open(hierarchy, name)
            except OSError:
                continue
        self.missing = self._missing([name for branch in self._branches for name in branch.controllers])

    def _open(self, hierarchy: Hierarchy, name: str) -> None:
        names.sweep(hierarchy.folder)
        branch = Branch(hierarchy, name)
        with ExitStack() as undo:
            if hierarchy.version == 2:
                self._delegate(hierarchy, undo)
            branch.make()
            undo.pop_all()
        self._branches.append(branch)

    def _delegate(self, hierarchy: Hierarchy, undo: ExitStack) -> None:
        delegation = Delegation(hierarchy)
        delegation.enter()
        undo.callback(delegation.leave)
        self._delegations.append(delegation)

    def close(self) -> None:
        """Remove our folders. What is busy still is the keeper's to remove."""
        self._threads.shutdown(cancel_futures=True)
        self._threads = _sleepers()
        while self._idle:
            self._idle.pop().remove()
        self._fewest_idle = 0
        for parent in self.parents:
            names.remove_tree(parent)
        while self._delegations:
            self._delegations.pop().leave()
        self._branches = []

    def make(self, name: str, limits: RunLimits) -> Group:
        """A group with these limits, its descriptors open. Raises `SandboxStartFailed`.

        It may be one that was used before: its folders then have the name of that sandbox.
        """
        try:
            return self._made(name, limits)
        except OSError as error:
            raise SandboxStartFailed(f"no cgroup for sandbox {name}: {error}", reason="cgroup") from error

    def _made(self, name: str, limits: RunLimits) -> Group:
        with ExitStack() as undo:
            folders = self._idle_with(limits) or Folders(name, limits, self._branches)
            undo.callback(folders.remove)
            folders.make(self._threads)
            # Complete, they are as good as new for the next sandbox, and cannot be removed while a thread is at them.
            undo.pop_all()
            undo.callback(self._take_back, folders)
            group = Group(folders, self._take_back)
            undo.callback(group.close_descriptors)
            group.open_descriptors(folders)
            undo.pop_all()
        return group

    async def shrink(self) -> NoReturn:
        """Remove what has not been needed for a while."""
        while True:
            await anyio.sleep(IDLE_SECONDS)
            for _ in range(self._fewest_idle):
                folders = self._idle.popleft()
                if not folders.remove():
                    self._idle.append(folders)
            self._fewest_idle = len(self._idle)

    def _idle_with(self, limits: RunLimits) -> Folders | None:
        while self._idle:
            folders = self._idle.pop()
            self._fewest_idle = min(self._fewest_idle, len(self._idle))
            if folders.limits == limits:
                return folders
            folders.remove()
        return None

    def _take_back(self, folders: Folders) -> bool:
        """Keep folders for the next sandbox, or remove them. False while they are not empty."""
        if len(self._idle) < MAX_IDLE and folders.are_as_new():
            self._idle.append(folders)
            return True
        return folders.remove()


def _sleepers() -> ThreadPoolExecutor:
    """Starts its threads when there is something to register."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="cgroup-threshold")
