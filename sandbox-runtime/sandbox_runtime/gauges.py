"""How much memory and how many processes the guests use: from a cgroup where there is one, else from /proc.

Guests are all processes of the sandbox but its zygote and its supervisor. Memory is theirs alone: not
the page cache, not files in the workspace, not pages still shared with the zygote.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

KIB = 1024

SHORTEST_LOOK_SECONDS = 0.005
LONGEST_LOOK_SECONDS = 0.25
"""Between two looks at the gauges. Shorter catches a bomb at a smaller overshoot, and costs CPU in every
run; an allocating program gains about 1 MiB a millisecond, so the interval follows the headroom."""

FILL_BYTES_PER_SECOND = 2 * 2**30


def next_look_seconds(used_bytes: int, limit_bytes: int) -> float:
    """When to look again: before the headroom can have been filled, within bounds."""
    headroom = max(0, limit_bytes - used_bytes)
    return min(LONGEST_LOOK_SECONDS, max(SHORTEST_LOOK_SECONDS, headroom / FILL_BYTES_PER_SECOND))


class Gauges:
    """Descriptors of cgroup files, by name, where the launcher could open them."""

    names = ("memory_stat", "memory_events", "pids_current")

    def __init__(self, files: Dict[str, int]) -> None:
        self._files = files
        self._killed_before = self._oom_kills()

    def memory_bytes(self) -> int:
        if "memory_stat" in self._files:
            return _field(self._read("memory_stat"), (b"anon", b"total_rss"))
        return sum(_private_bytes(pid) for pid in guests())

    def processes(self) -> int:
        """Processes and threads; without a cgroup processes only, the kernel's own limit holds the threads."""
        if "pids_current" in self._files:
            return int(self._read("pids_current"))
        return len(guests())

    def was_killed_by_the_kernel(self) -> bool:
        """Whether the kernel has ended a guest for want of memory."""
        return self._oom_kills() > self._killed_before

    def _oom_kills(self) -> int:
        return _field(self._read("memory_events"), (b"oom_kill",)) if "memory_events" in self._files else 0

    def _read(self, name: str) -> bytes:
        return os.pread(self._files[name], 16384, 0)


def guests() -> List[int]:
    own = os.getpid()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in (1, own)]


def _field(text: bytes, names: "tuple[bytes, ...]") -> int:
    """The value of the first `name value` line that is there."""
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if name in names:
            return int(value)
    return 0


def _private_bytes(pid: int) -> int:
    try:
        return _private_dirty(pid)
    except PermissionError:  # a guest may make itself non-dumpable: then all its pages count as its own
        return _resident_bytes(pid) or 0
    except OSError:  # it has just ended
        return 0


def _private_dirty(pid: int) -> int:
    with open("/proc/%d/smaps_rollup" % pid, "rb") as file:
        for line in file:
            if line.startswith(b"Private_Dirty:"):
                return int(line.split()[1]) * KIB
    return 0


def _resident_bytes(pid: int) -> "Optional[int]":
    try:
        with open("/proc/%d/statm" % pid, "rb") as file:
            _, resident, shared = map(int, file.read().split()[:3])
    except OSError:
        return None
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
