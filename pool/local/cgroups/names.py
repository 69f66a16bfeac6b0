"""The names of the folders that hold a service's sandboxes, and whose service has died.

A name carries pid and start time: a pid alone is given to another process sooner or later.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pool.local.cgroups import files

_NAME = re.compile(r"code-interpreter-(\d+)-(\d+)(?:-\d+)?")
_serial = itertools.count(1)


def new_name() -> str:
    """For this process; another one each time."""
    return f"code-interpreter-{os.getpid()}-{start_ticks(os.getpid())}-{next(_serial)}"


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when there is none."""
    try:
        return ticks_in(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except OSError:
        return None


def ticks_in(stat: str) -> int:
    return int(stat.rpartition(")")[2].split()[19])  # the program's name, in brackets, may hold anything


def sweep(folder: str) -> None:
    """Remove what dead services left in `folder`. Their processes died with them; what is not empty stays."""
    for parent in _orphans(folder):
        remove_tree(parent)


def _orphans(folder: str) -> Iterator[str]:
    for name in os.listdir(folder):
        match = _NAME.fullmatch(name)
        if match and start_ticks(int(match[1])) != int(match[2]):
            yield os.path.join(folder, name)


def remove_tree(parent: str) -> None:
    """Remove a folder and those in it, as far as they are empty."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            if entry.is_dir(follow_symlinks=False):
                files.remove(entry.path)
    files.remove(parent)
