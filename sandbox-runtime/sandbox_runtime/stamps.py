"""Times of files that are not in the places that are wiped, and that a program may set all the same.

Of a device: whoever may write to it. Of folders in the zygote's and the supervisor's /proc: whoever has their uid.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TOPS = ("/dev", "/proc")
_CLOSED = {"fd", "fdinfo", "map_files"}
"""Folders in /proc that are for the process alone; what is in ours comes and goes."""


def settable(but: Iterable[str]) -> list[str]:
    """All of them, but for those that are looked after elsewhere.

    SECURITY: in /proc a file has the time of the first look at it, and a folder that of its first list. Every one has
    been looked at by now, so that no program's look is the first (tests/integration/test_residue.py).
    """
    kept = set(but)
    return [path for top in _TOPS for path in _below(top, kept) if _stamped(path)]


def stamp(paths: Iterable[str]) -> None:
    """SECURITY: they tell of this cleaning, and of nothing that the last program did."""
    for path in paths:
        _stamped(path)


def _stamped(path: str) -> bool:
    try:
        os.utime(path, follow_symlinks=False)
    except OSError:  # as a rule: it is not for a program to set either
        return False
    return True


def _below(top: str, but: set[str]) -> Iterator[str]:
    for folder, folders, files in os.walk(top):
        listed = [(name, os.path.join(folder, name)) for name in folders + files]
        folders[:] = [name for name in folders if _is_entered(folder, name, but)]
        yield from (path for name, path in listed if path not in but and not _is_of_a_guest(folder, name))


def _is_entered(folder: str, name: str, but: set[str]) -> bool:
    return name not in _CLOSED and os.path.join(folder, name) not in but and not _is_of_a_guest(folder, name)


def _is_of_a_guest(folder: str, name: str) -> bool:
    """What goes with its process."""
    return folder == "/proc" and name.isdigit() and int(name) not in (1, os.getpid())
