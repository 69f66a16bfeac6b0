"""The three places where a program can write: what is laid out in them, how they are wiped, what they are like.

SECURITY: what is wiped was made by an enemy: folders that are closed to their owner, nested deeper than a path can
name, ten thousand files. Nothing is followed; every step is bounded by a deadline (tests/unit/test_places.py).
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WRITABLE = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108  # the sandbox's own mounts
MATPLOTLIB_FOLDER = "/tmp/.matplotlib"  # noqa: S108

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602  # the same on all 64-bit machines that we know

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooSlow(OSError):
    """There was more to wipe than time."""


def lay_out_tmp(font_lists: str) -> None:
    """matplotlib turns its back on a folder that it cannot write to, and would search all fonts again: so each
    sandbox has one with links to the lists that were made with the image."""
    os.mkdir(MATPLOTLIB_FOLDER)
    for name in os.listdir(font_lists) if os.path.isdir(font_lists) else []:
        os.symlink(os.path.join(font_lists, name), os.path.join(MATPLOTLIB_FOLDER, name))


# --- wiping


def wipe(place: str, until: float) -> int:
    """Remove all that is in a folder, by the monotonic clock's `until`; returns how many entries there were.

    Raises OSError when something resists, or when there is not enough time. No guest may live.
    """
    if os.stat(place).st_uid == os.getuid():
        os.chmod(place, 0o700)  # a program may have closed it even to us
    top = os.open(place, _FOLDER)
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
        folder = os.open(name, _FOLDER, dir_fd=self._top)
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


# --- what a place is like


COMPARED = ("mode", "owner", "flags", "attributes", "times", "used_blocks", "used_files", "entries")


class State:
    """What a place is like. For one that has just been wiped: all that is in it is looked at."""

    __slots__ = COMPARED

    def __init__(self, place: str) -> None:
        found, space = os.stat(place), os.statvfs(place)
        self.mode, self.owner = found.st_mode, (found.st_uid, found.st_gid)
        self.flags, self.attributes = _flags(place), _attributes(place)
        # Of what is not ours nobody here can set the times, nor turn them back.
        self.times = found.st_mtime_ns if found.st_uid == os.getuid() else None
        self.used_blocks = space.f_blocks - space.f_bfree
        self.used_files = space.f_files - space.f_ffree
        self.entries = sorted(_below(place))

    def differences(self, before: State) -> list[str]:
        """Which of these are not as they were."""
        return [name for name in COMPARED if getattr(self, name) != getattr(before, name)]


def _below(place: str) -> Iterator[tuple[str, int, str, dict[str, bytes]]]:
    """All there is, each with its mode, where it leads, and attributes: it may have those of the folder it is in."""
    for folder, *lists in os.walk(place):
        for path in [os.path.join(folder, name) for names in lists for name in names]:
            mode = os.lstat(path).st_mode
            yield path, mode, os.readlink(path) if stat.S_ISLNK(mode) else "", _attributes(path)


def _attributes(path: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    except OSError:  # a file system without them
        return {}


def _flags(place: str) -> int | None:
    """As `lsattr` shows them. SECURITY: two of them a program may set, and what is made below inherits them."""
    with suppress(OSError), _opened(place) as folder:
        return int.from_bytes(fcntl.ioctl(folder, FS_IOC_GETFLAGS, bytes(8))[:4], sys.byteorder)
    return None  # a file system without them


def restore(place: str, before: State) -> None:
    """Mode, flags and attributes as they were, where they are ours to set. Of a place that has been wiped."""
    if os.stat(place).st_uid != os.getuid():
        return
    if before.flags is not None and _flags(place) != before.flags:
        with _opened(place) as folder:
            fcntl.ioctl(folder, FS_IOC_SETFLAGS, before.flags.to_bytes(8, sys.byteorder))
    now = _attributes(place)
    for name in now.keys() - before.attributes.keys():
        os.removexattr(place, name)
    for name in [name for name, value in before.attributes.items() if now.get(name) != value]:
        os.setxattr(place, name, before.attributes[name])
    os.chmod(place, stat.S_IMODE(before.mode))  # after the attributes: an access list has a say in the mode


def turn_back(place: str, before: State) -> None:
    """Both times as the changing one was. After all else: laying out changes them, and looking does."""
    if before.times is not None:
        os.utime(place, ns=(before.times, before.times))
    else:
        # SECURITY: what cannot be turned back tells of this cleaning, and not of what the last program did and when
        # (tests/kube/contract/test_residue_in_pods.py).
        os.utime(place)


@contextmanager
def _opened(place: str) -> Iterator[int]:
    folder = os.open(place, _FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)
