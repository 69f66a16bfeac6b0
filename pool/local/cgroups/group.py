"""The cgroups of one sandbox, from its making to its end."""

from __future__ import annotations

import os
from collections.abc import Callable

from pool.local.cgroups.folders import Folders
from sandbox_runtime.gauges import FRESH_WEIGHTS


class Group:
    """What a sandbox is given of its cgroups: open descriptors, to be passed on and closed."""

    def __init__(self, folders: Folders, take_back: Callable[[Folders], bool]) -> None:
        self.enter: list[int] = []
        """A file of each: a process with a single thread that writes "0" to it is in."""
        self.gauges: dict[str, int] = {}
        """What the supervisor reads, or writes, named as in `sandbox_runtime/gauges.py`."""
        self._folders: Folders | None = folders
        self._take_back = take_back

    def open_descriptors(self, folders: Folders) -> None:
        for path in folders.doors():
            self.enter.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        for gauge, path in folders.gauges():
            self._open_gauge(gauge, path)
        if folders.threshold is not None:
            folders.threshold.renew()
            self.gauges["memory_threshold"] = os.dup(folders.threshold.event)

    def _open_gauge(self, gauge: str, path: str) -> None:
        fresh = FRESH_WEIGHTS.get(gauge)
        try:
            self.gauges[gauge] = os.open(path, (os.O_RDONLY if fresh is None else os.O_WRONLY) | os.O_CLOEXEC)
        except FileNotFoundError:  # pids.events came with Linux 4.8
            return
        if fresh is not None:  # the sandbox that had the folder before may have lowered it
            os.pwrite(self.gauges[gauge], fresh, 0)

    def close_descriptors(self) -> None:
        """Once they were passed on: whoever has them keeps them."""
        for descriptor in (*self.enter, *self.gauges.values()):
            os.close(descriptor)
        self.enter.clear()
        self.gauges.clear()

    def remove(self) -> bool:
        """Give it up. False while the kernel still has its dead in it: ask again. Safe to call after True."""
        self.close_descriptors()
        # Asked again after True it must do nothing: the folders may be another sandbox's by then.
        if self._folders is not None and self._take_back(self._folders):
            self._folders = None
        return self._folders is None
