"""The three places where a program can write: what is laid out in them, and how they are wiped.

SECURITY: what is wiped was made by an enemy: folders that are closed to their owner, nested deeper than a path can
name, ten thousand files. Nothing is followed; every step is bounded by a deadline (tests/unit/test_places.py).
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WRITABLE = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108  # the sandbox's own mounts
MATPLOTLIB_FOLDER = "/tmp/.matplotlib"  # noqa: S108


class TooSlow(OSError):
    """There was more to wipe than time."""


def lay_out_tmp(font_lists: str) -> None:
    """matplotlib turns its back on a folder that it cannot write to, and would search all fonts again: so each
    sandbox has one with links to the lists that were made with the image."""
    os.mkdir(MATPLOTLIB_FOLDER)
    for name in os.listdir(font_lists) if os.path.isdir(font_lists) else []:
        os.symlink(os.path.join(font_lists, name), os.path.join(MATPLOTLIB_FOLDER, name))


def wipe(place: str, until: float) -> int:
    """Remove all that is in a folder, by the monotonic clock's `until`; returns how many entries there were.

    Raises OSError when something resists, or when there is not enough time. No guest may live.
    """
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _Wiping(top, until).all()
    finally:
        os.close(top)


class _Wiping:
    """Folders that are not empty are moved to the top first, so that no path is ever longer than two names."""

    def __init__(self, top: int, until: float) -> None:
        self._top, self._until = top, until
        self._count = self._moved = 0

    def all(self) -> int:
        while names := os.listdir(self._top):
            for name in names:
                self._remove(name)
        return self._count

    def _remove(self, name: str) -> None:
        self._check_clock()
        if not _is_folder(name, self._top):
            self._unlink(name, self._top)
            return
        self._empty(name)
        os.rmdir(name, dir_fd=self._top)
        self._count += 1

    def _empty(self, name: str) -> None:
        os.chmod(name, 0o700, dir_fd=self._top)  # it is a folder, and nobody lives who could make it a link now
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._top)
        try:
            for each in os.listdir(folder):
                self._check_clock()
                if _is_folder(each, folder):
                    self._lift(each, folder)
                else:
                    self._unlink(each, folder)
        finally:
            os.close(folder)

    def _lift(self, name: str, folder: int) -> None:
        # Moving a folder to another parent writes to the folder itself, whose mode may forbid that.
        os.chmod(name, 0o700, dir_fd=folder)
        while True:
            self._moved += 1
            target = f".wiped-{self._moved}"
            # A folder that a program named so would be replaced if it is empty, and is in the way if it is not.
            with suppress(OSError):
                os.rename(name, target, src_dir_fd=folder, dst_dir_fd=self._top)
                return
            self._check_clock()

    def _unlink(self, name: str, folder: int) -> None:
        os.unlink(name, dir_fd=folder)
        self._count += 1

    def _check_clock(self) -> None:
        if time.monotonic() > self._until:
            raise TooSlow(f"{self._count} entries were wiped in the time there was, and more are left")


def _is_folder(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


class State:
    """What a place is like from outside: mode, owner, extended attributes, times, and what its files take."""

    __slots__ = ("mode", "owner", "attributes", "changed_ns", "used_blocks", "used_files", "names")

    def __init__(self, place: str) -> None:
        found, space = os.stat(place), os.statvfs(place)
        self.mode, self.owner = found.st_mode, (found.st_uid, found.st_gid)
        self.changed_ns = found.st_mtime_ns
        self.attributes = _attributes(place)
        self.used_blocks = space.f_blocks - space.f_bfree
        self.used_files = space.f_files - space.f_ffree
        self.names = sorted(_below(place))

    def differences(self, other: State) -> list[str]:
        """Which of these are not as they were; times apart, which are set and not compared."""
        names = ("mode", "owner", "attributes", "used_blocks", "used_files", "names")
        return [name for name in names if getattr(self, name) != getattr(other, name)]


def _below(place: str) -> Sequence[str]:
    """Paths of all there is. For places that have just been wiped: small ones."""
    return [os.path.join(folder, name) for folder, *lists in os.walk(place) for names in lists for name in names]


def _attributes(place: str) -> list[str]:
    try:
        return sorted(os.listxattr(place))
    except OSError:  # a file system without them
        return []


def restore(place: str, before: State) -> None:
    """Mode, attributes and times as they were, where they are ours to set."""
    if os.stat(place).st_uid != os.getuid():
        return
    os.chmod(place, stat.S_IMODE(before.mode))
    for name in set(_attributes(place)) - set(before.attributes):
        os.removexattr(place, name)
    os.utime(place, ns=(before.changed_ns, before.changed_ns))
