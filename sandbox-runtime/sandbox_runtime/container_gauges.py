"""The gauges of a container: its cgroup holds the zygote and the supervisor too, and nobody else caps anything in it.

The limits that a launcher puts on a cgroup cannot be put there from inside. So memory and processes are looked at more
often than where the kernel watches them, and so are files: a tmpfs of the kubelet has no inode limit of any use, and
an empty file costs 1 KB of kernel memory that no size limit sees (tests/hostile/test_resources.py).
"""

from __future__ import annotations

import contextlib
import os

from sandbox_runtime import gauges, places
from sandbox_runtime.polling import FOR_EVER

FILES = {
    "memory_stat": ("/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat"),
    "memory_events": ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"),
    "pids_current": ("/sys/fs/cgroup/pids.current", "/sys/fs/cgroup/pids/pids.current"),
}
"""By name: where cgroup v2 has it, and v1."""

OUR_PROCESSES = 2
"""The zygote and the supervisor. Each bridge is one more."""


class ContainerGauges(gauges.Gauges):
    """What the guests use is what there is above an armed child."""

    def __init__(self) -> None:
        self._bytes_before = 0
        self._files_before: dict[str, int] = {}
        super().__init__(_opened())

    def begin(self) -> None:
        super().begin()
        self._bytes_before = 0
        self._bytes_before = self.memory_bytes() if "memory_stat" in self._files else 0
        self._files_before = {place: _files_in(place) for place in places.WRITABLE}

    def memory_bytes(self, until: float = FOR_EVER) -> int:
        used = super().memory_bytes(until)
        if "memory_stat" in self._files:
            used += self._nameless_bytes() - sum(gauges.resident_bytes(pid) or 0 for pid in self.bridges)
        return max(0, used - self._bytes_before)

    def _nameless_bytes(self) -> int:
        """Memory that processes share, and files without a name: what the kernel keeps like files, in no place of
        ours. SECURITY: uncounted, a program had three times its limit (tests/hostile/test_resources.py)."""
        # Before and after: what is deleted between two looks must not count as the program's memory.
        before = _bytes_in_places()
        kept = gauges._field(self._read("memory_stat"), (b"shmem",))
        return max(0, kept - max(before, _bytes_in_places()))

    def has_hit_the_process_limit(self, limit: int) -> bool:
        ours = OUR_PROCESSES + len(self.bridges) if "pids_current" in self._files else 0
        return self.processes() - ours > limit

    def has_too_many_files(self, limit: int) -> bool:
        return any(_files_in(place) - before > limit for place, before in self._files_before.items())


def _files_in(place: str) -> int:
    state = os.statvfs(place)
    return state.f_files - state.f_ffree


def _bytes_in_places() -> int:
    states = [os.statvfs(place) for place in places.WRITABLE]
    return sum((state.f_blocks - state.f_bfree) * state.f_frsize for state in states)


def _opened() -> dict[str, int]:
    found: dict[str, int] = {}
    for name, paths in FILES.items():
        for path in paths:
            with contextlib.suppress(OSError):
                found.setdefault(name, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                break
    return found
