"""This service's folder in one hierarchy, and what a sandbox's folder in it is given."""

from __future__ import annotations

import os

from pool.local.cgroups import files
from pool.local.cgroups.delegation import enable
from pool.local.cgroups.limits import LINES, QUOTA_FILES, STARTING
from pool.local.cgroups.tree import Hierarchy
from pool.settings import RunLimits

IDLE_BYTES = 16 * 2**20
"""A folder to which more is still charged is not used again: what is left of one run must not count in the next.
The kernel charges in advance, 256 KiB a core, so much less would refuse empty ones on large machines."""

_USAGE_FILES = {1: "memory.usage_in_bytes", 2: "memory.current"}


class Branch:
    """One folder that holds a folder for each sandbox."""

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self.version, self.controllers = hierarchy.version, hierarchy.controllers
        self.path = os.path.join(hierarchy.folder, name)
        self._lines = [LINES[hierarchy.version, controller] for controller in hierarchy.controllers]
        self._left_out: set[str] = set()
        """Files that this kernel does not have, or refuses to write."""

    def make(self) -> None:
        files.make(self.path)
        try:
            if self.version == 2:
                enable(self.path, self.controllers)
            self._prepare()
            self._make_starting()
        except OSError:
            files.remove(f"{self.path}/{STARTING}")
            files.remove(self.path)
            raise

    def _prepare(self) -> None:
        present = set(os.listdir(self.path))
        for lines in self._lines:
            for file, value in lines.parent:
                if file in present:
                    files.write(f"{self.path}/{file}", value)
        self._left_out = {file for file in QUOTA_FILES.values() if file not in present}

    def _make_starting(self) -> None:
        for file, weight in self._starting:
            files.make(f"{self.path}/{STARTING}")
            files.write(f"{self.path}/{STARTING}/{file}", weight)

    @property
    def _starting(self) -> list[tuple[str, int]]:
        return [line for lines in self._lines for line in lines.starting]

    @property
    def starting_doors(self) -> list[str]:
        """For a template, before it has threads."""
        return [f"{self.path}/{STARTING}/{self.door}"] if self._starting else []

    @property
    def door(self) -> str:
        """The file in a sandbox's folder into which a process with a single thread writes "0" to enter.

        `cgroup.procs` waits for a moment without forks, which takes the kernel 7 ms, and 60 beside programs that
        compute. A thread that moves itself need not wait (since Linux 5.5); v2 has no such file for us.
        """
        return "tasks" if self.version == 1 else "cgroup.procs"

    @property
    def has_quota(self) -> bool:
        return "cpu" not in self.controllers or QUOTA_FILES[self.version] not in self._left_out

    @property
    def has_thresholds(self) -> bool:
        return self.version == 1 and "memory" in self.controllers

    def limit(self, folder: str, limits: RunLimits) -> None:
        """Set the limits of one sandbox's folder."""
        for lines in self._lines:
            for file, value in lines.needed(limits):
                files.write(f"{folder}/{file}", value)
            for file, value in lines.optional(limits):
                self._limit_if_possible(folder, file, value)

    def _limit_if_possible(self, folder: str, file: str, value: object) -> None:
        if file in self._left_out:
            return
        try:
            files.write(f"{folder}/{file}", value)
        except OSError:  # no such file in an old kernel; EINVAL for a quota above our own cgroup's, which holds anyway
            self._left_out.add(file)

    def gauges(self, folder: str) -> list[tuple[str, str]]:
        """Names of gauges, and the files to read."""
        return [(gauge, f"{folder}/{file}") for lines in self._lines for gauge, file in lines.gauges]

    def is_clean(self, folder: str) -> bool:
        """Whether nothing that a former sandbox left there would count in the next."""
        if "memory" in self.controllers and _number(folder, _USAGE_FILES[self.version]) > IDLE_BYTES:
            return False
        # A process counts until it is reaped, which may be later than it is last seen in cgroup.procs.
        return "pids" not in self.controllers or _number(folder, "pids.current") == 0


def _number(folder: str, file: str) -> int:
    return int(files.read(f"{folder}/{file}"))
