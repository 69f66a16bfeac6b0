"""cgroups for the sandboxes of this service: memory, processes and CPU, capped by the kernel itself.

    <our cgroup>/code-interpreter-<pid>-<start>-<n>/<sandbox>     in each hierarchy

Only the program enters its sandbox's cgroup, not the processes that watch over it. Where a controller
cannot be had the others are used, and `Groups.missing` names it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from pool.errors import SandboxStartFailed
from pool.local import cgroup_names as names
from pool.local.cgroup_delegation import Delegation, enable
from pool.local.cgroup_limits import LINES, QUOTA_FILES
from pool.local.cgroup_threshold import THREADS, Threshold
from pool.local.cgroup_tree import CONTROLLERS, Hierarchy, usable
from pool.settings import RunLimits

MAX_IDLE = 32
"""Folders kept for the next sandbox: taking one costs a third of making and removing one. More help larger bursts;
each holds some 20 KiB of the kernel's memory."""

IDLE_BYTES = 16 * 2**20
"""A folder to which more is still charged is not used again: what is left of one run must not count in the next.
The kernel charges in advance, 256 KiB a core, so much less would refuse empty ones on large machines."""


def find() -> Groups:
    """The cgroups that can be had here. Changes nothing yet."""
    return Groups(usable(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()))


class Branch:
    """Our folder in one hierarchy, and what this kernel has in a sandbox's folder there."""

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self.version, self.controllers = hierarchy.version, hierarchy.controllers
        self.path = os.path.join(hierarchy.folder, name)
        self._lines = [LINES[hierarchy.version, controller] for controller in hierarchy.controllers]
        self._left_out: set[str] = set()

    def make(self) -> None:
        os.mkdir(self.path)
        try:
            if self.version == 2:
                enable(self.path, self.controllers)
            self._prepare()
        except OSError:
            names.remove(self.path)
            raise

    def _prepare(self) -> None:
        present = set(os.listdir(self.path))
        for lines in self._lines:
            for file, value in lines.parent:
                if file in present:
                    _write(f"{self.path}/{file}", value)
        self._left_out = {file for file in QUOTA_FILES.values() if file not in present}

    @property
    def has_quota(self) -> bool:
        return "cpu" not in self.controllers or QUOTA_FILES[self.version] not in self._left_out

    def limit(self, folder: str, limits: RunLimits) -> None:
        """Set the limits of one sandbox's folder."""
        for lines in self._lines:
            for file, value in lines.needed(limits):
                _write(f"{folder}/{file}", value)
            for file, value in lines.optional(limits):
                self._limit_if_possible(f"{folder}/{file}", value)

    def _limit_if_possible(self, path: str, value: object) -> None:
        file = os.path.basename(path)
        if file in self._left_out:
            return
        try:
            _write(path, value)
        except OSError:  # an old kernel has no such file; a quota above that of our own cgroup, which holds anyway, is EINVAL
            self._left_out.add(file)

    def gauges(self) -> list[tuple[str, str]]:
        return [gauge for lines in self._lines for gauge in lines.gauges]


class Groups:
    """All cgroups of this service. `open`, then `make` one for each sandbox, then `close`."""

    def __init__(self, hierarchies: tuple[Hierarchy, ...]) -> None:
        self._hierarchies = hierarchies
        self._branches: list[Branch] = []
        self._delegations: list[Delegation] = []
        self._idle: list[Group] = []
        self.missing = self._missing([name for hierarchy in hierarchies for name in hierarchy.controllers])

    @property
    def parents(self) -> list[str]:
        """Our folders: who outlives the service removes them, with the folders in them."""
        return [branch.path for branch in self._branches]

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
        with ExitStack() as undo:
            if hierarchy.version == 2:
                delegation = Delegation(hierarchy)
                delegation.enter()
                undo.callback(delegation.leave)
                self._delegations.append(delegation)
            branch = Branch(hierarchy, name)
            branch.make()
            undo.pop_all()
        self._branches.append(branch)

    def close(self) -> None:
        """Remove our folders. What is busy still is the keeper's to remove."""
        for parent in self.parents:
            names.remove_tree(parent)
        while self._delegations:
            self._delegations.pop().leave()
        self._branches.clear()
        self._idle.clear()

    def make(self, name: str, limits: RunLimits) -> Group:
        """A group with these limits, its descriptors open. Raises `SandboxStartFailed`.

        It may be one that was used before: its folders then have the name of that sandbox.
        """
        while self._idle and self._idle[-1].limits != limits:
            self._idle.pop().remove_folders()
        group = self._idle.pop() if self._idle else Group(name, limits, self)
        try:
            group.prepare(self._branches)
        except OSError as error:
            group.close_descriptors()
            group.remove_folders()
            raise SandboxStartFailed(f"no cgroup for sandbox {name}: {error}", reason="cgroup") from error
        return group

    def keep(self, group: Group) -> bool:
        """Take an empty group for the next sandbox, or say that it is not wanted."""
        wanted = len(self._idle) < MAX_IDLE and bool(self._branches) and group.charged_bytes() <= IDLE_BYTES
        if wanted:
            self._idle.append(group)
        return wanted


class Group:
    """The cgroups of one sandbox."""

    def __init__(self, name: str, limits: RunLimits, owner: Groups) -> None:
        self.limits = limits
        self.enter: list[int] = []
        """cgroup.procs files: whoever writes "0" to each is in."""
        self.gauges: dict[str, int] = {}
        """What the supervisor reads, named as in `sandbox_runtime/gauges.py`."""
        self._name, self._owner = name, owner
        self._folders: list[str] = []
        self._is_out = False

    def prepare(self, branches: list[Branch]) -> None:
        """Make the folders, unless they are there, and open what the sandbox needs of them."""
        self._is_out = True
        if not self._folders:
            self._make_folders(branches)
        for branch, folder in zip(branches, self._folders, strict=True):
            self.enter.append(_open(f"{folder}/cgroup.procs", os.O_WRONLY))
            for gauge, file in branch.gauges():
                self._open_gauge(gauge, f"{folder}/{file}")
            if (branch.version, branch.controllers[0]) == (1, "memory"):
                self._arm_threshold(folder)

    def _make_folders(self, branches: list[Branch]) -> None:
        for branch in branches:
            folder = os.path.join(branch.path, self._name)
            os.mkdir(folder)
            self._folders.append(folder)
            branch.limit(folder, self.limits)

    def _open_gauge(self, gauge: str, path: str) -> None:
        try:
            self.gauges[gauge] = _open(path, os.O_RDONLY)
        except FileNotFoundError:  # pids.events came with Linux 4.8: without it the supervisor polls
            return

    def _arm_threshold(self, folder: str) -> None:
        """Have the kernel say when the charge, files and all, reaches what the program alone may have."""
        try:
            self.gauges["memory_threshold"] = _threshold(folder, self.limits.memory_bytes)
        except OSError:  # a real-time kernel has none: the supervisor then polls
            return

    def close_descriptors(self) -> None:
        """Once they were passed on: whoever has them keeps them."""
        for descriptor in (*self.enter, *self.gauges.values()):
            os.close(descriptor)
        self.enter.clear()
        self.gauges.clear()

    def remove(self) -> bool:
        """Give it up. False while the kernel still has its dead in it: ask again."""
        self.close_descriptors()
        if not self._is_out:
            return True
        self._is_out = not (self._is_empty() and self._owner.keep(self)) and not self.remove_folders()
        return not self._is_out

    def remove_folders(self) -> bool:
        self._folders = [folder for folder in self._folders if not names.remove(folder)]
        return not self._folders

    def _is_empty(self) -> bool:
        return bool(self._folders) and not Path(self._folders[0], "cgroup.procs").read_bytes()

    def charged_bytes(self) -> int:
        """Memory still charged to it."""
        for file in ("memory.usage_in_bytes", "memory.current"):
            path = Path(self._folders[0], file)
            if path.exists():
                return int(path.read_bytes())
        return 0


def _threshold(folder: str, charged_bytes: int) -> int:
    """An eventfd that becomes readable when the charge crosses so many bytes."""
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    usage = -1
    try:
        usage = _open(f"{folder}/memory.usage_in_bytes", os.O_RDONLY)
        _write(f"{folder}/cgroup.event_control", f"{event} {usage} {charged_bytes}")
    except OSError:
        os.close(event)
        raise
    finally:
        if usage >= 0:
            os.close(usage)
    return event


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC)


def _write(path: str, value: object) -> None:
    descriptor = _open(path, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
