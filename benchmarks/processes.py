"""What a service holds, by /proc: its processes, their memory, descriptors, mounts and cgroups.

Sandboxed processes belong to other uids: all of it can be read by root, or by the user who runs the service.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


def cores() -> int:
    return len(os.sched_getaffinity(0))


def tree(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if fields := _stat(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields behind the program's name; nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def pss_bytes(pids: list[int]) -> int:
    """Their memory; what several share counts in parts, so that the sum over all who share is the whole."""
    return sum(map(_pss_bytes, pids))


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) * KIB for line in text.splitlines() if line.startswith("Pss:")), 0)


def descriptors(pids: list[int]) -> int:
    count = 0
    for pid in pids:
        with suppress(FileNotFoundError):
            count += len(os.listdir(f"/proc/{pid}/fd"))
    return count


def mounts(pids: list[int]) -> int:
    """In all mount namespaces that these processes live in; each namespace counts once."""
    tables = {}
    for pid in pids:
        with suppress(OSError):
            tables[os.stat(f"/proc/{pid}/ns/mnt").st_ino] = Path(f"/proc/{pid}/mountinfo").read_text().count("\n")
    return sum(tables.values())


def cgroups(service: int) -> int:
    """Folders of cgroups that this service made."""
    return sum(1 for _ in _cgroups(service))


def _cgroups(service: int) -> Iterator[str]:
    for folder, inner, _ in os.walk("/sys/fs/cgroup"):
        if f"/code-interpreter-{service}-" in folder:
            yield from (os.path.join(folder, name) for name in inner)


def counts(service: int) -> dict[str, int]:
    """All that must not grow."""
    pids = tree(service)
    return {
        "processes": len(pids),
        "descriptors": descriptors(pids),
        "mounts": mounts(pids),
        "cgroups": cgroups(service),
    }
