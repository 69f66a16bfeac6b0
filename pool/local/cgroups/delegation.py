"""Makes a v2 cgroup ready for folders of ours, and takes that back.

v2 allows no processes beside folders that have controllers. So this process, and with it all that it
starts later, moves one level down into a leaf of its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pool.local.cgroups import files
from pool.local.cgroups.tree import Hierarchy, is_real_root

LEAF = "service"


class Delegation:
    """One v2 cgroup, with us in its leaf and the controllers switched on for folders beside it."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._folder = hierarchy.folder
        self._leaf = None if is_real_root(hierarchy.folder) else os.path.join(hierarchy.folder, LEAF)
        self._before = _enabled(self._folder)
        self._wanted = hierarchy.controllers

    def enter(self) -> None:
        """Raises `OSError`, with everything as it was, where the kernel refuses: not delegated, or not ours alone."""
        try:
            if self._leaf is not None:
                _make_leaf(self._leaf)
                _move_here(self._leaf)
            enable(self._folder, self._wanted)
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Undo it. Our folders are gone by now, else the kernel keeps the controllers on."""
        if self._leaf is None:  # at the root others may have come to rely on them
            return
        with suppress(OSError):
            _switch(self._folder, [f"-{name}" for name in _enabled(self._folder) if name not in self._before])
        with suppress(OSError):
            _move_here(self._folder)
        files.remove(self._leaf)


def enable(folder: str, controllers: tuple[str, ...]) -> None:
    """Let the folders in `folder` have these controllers."""
    _switch(folder, [f"+{name}" for name in controllers])


def _make_leaf(folder: str) -> None:
    with suppress(FileExistsError):  # left by a service that was killed
        files.make(folder)


def _switch(folder: str, changes: list[str]) -> None:
    files.write(os.path.join(folder, "cgroup.subtree_control"), " ".join(changes))


def _enabled(folder: str) -> list[str]:
    return Path(folder, "cgroup.subtree_control").read_text().split()


def _move_here(folder: str) -> None:
    files.write(os.path.join(folder, "cgroup.procs"), os.getpid())
