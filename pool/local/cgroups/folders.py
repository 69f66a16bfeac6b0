"""A folder in each hierarchy, with limits: what sandboxes have one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pool.local.cgroups import files
from pool.local.cgroups.branch import Branch
from pool.local.cgroups.threshold import Threshold
from pool.settings import RunLimits


class Folders:
    """One sandbox's place in all hierarchies."""

    def __init__(self, name: str, limits: RunLimits, branches: Sequence[Branch]) -> None:
        self.limits = limits
        self._name, self._branches = name, branches
        self._paths: list[str] = []
        self.threshold: Threshold | None = None

    def make(self, threads: ThreadPoolExecutor) -> None:
        """Make them, unless they are there."""
        if self._paths:
            return
        for branch in self._branches:
            path = os.path.join(branch.path, self._name)
            files.make(path)
            self._paths.append(path)
            branch.limit(path, self.limits)
        self._watch(threads)

    def _watch(self, threads: ThreadPoolExecutor) -> None:
        for branch, path in zip(self._branches, self._paths, strict=True):
            if branch.has_thresholds:
                self.threshold = Threshold(path, self.limits.memory_bytes)
                self.threshold.register(threads)

    def remove(self) -> bool:
        """False while the kernel still has processes in one of them, or a thread is busy with its threshold."""
        if self.threshold is not None:
            if self.threshold.is_being_registered():
                return False
            self.threshold.close()
            self.threshold = None
        self._paths = [path for path in self._paths if not files.remove(path)]
        return not self._paths

    def doors(self) -> list[str]:
        """Files for whoever enters."""
        return [f"{path}/{branch.door}" for branch, path in zip(self._branches, self._paths, strict=True)]

    def gauges(self) -> Iterator[tuple[str, str]]:
        """Names of gauges, and the files to read."""
        for branch, path in zip(self._branches, self._paths, strict=True):
            yield from branch.gauges(path)

    def are_as_new(self) -> bool:
        """Whether the next sandbox may have them."""
        try:
            return self._are_empty() and all(map(Branch.is_clean, self._branches, self._paths))
        except OSError:  # somebody removed one
            return False

    def _are_empty(self) -> bool:
        # They are entered together: one stands for all.
        return bool(self._paths) and not files.read(f"{self._paths[0]}/cgroup.procs")
