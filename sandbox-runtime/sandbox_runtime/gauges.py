"""How much memory and how many processes the guests use: from a cgroup where there is one, else from /proc.

Guests are all processes of the sandbox but its zygote and its supervisor. Memory is theirs alone: not
the page cache, not files in the workspace, not pages still shared with the zygote.

Where the kernel can say that it is time to look at the memory, nobody looks every few milliseconds: a look costs
0.14 ms of CPU with the waking up, and there may be hundreds of programs that sleep.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time

from sandbox_runtime import guests
from sandbox_runtime.polling import FOR_EVER

KIB = 1024

_ROLLED_UP = re.compile(rb"^(Private_Dirty|Pss_Shmem): +(\d+) kB$", re.MULTILINE)

SHORTEST_LOOK_SECONDS = 0.005
LONGEST_LOOK_SECONDS = 0.25
"""Between two looks at the gauges. Shorter catches a bomb at a smaller overshoot, and costs CPU in every
run; an allocating program gains about 1 MiB a millisecond, so the interval follows the headroom."""

FILL_BYTES_PER_SECOND = 2 * 2**30

RESTING_LOOK_SECONDS = 1.0
"""While the kernel watches the memory: for processes only, which it caps by itself. It counts those that it refused,
and tells nobody (cgroup v1 since Linux 6.11), so somebody has to look. Shorter ends a capped fork bomb sooner."""


def next_look_seconds(used_bytes: int, limit_bytes: int) -> float:
    """When to look again: before the headroom can have been filled, within bounds."""
    headroom = max(0, limit_bytes - used_bytes)
    return min(LONGEST_LOOK_SECONDS, max(SHORTEST_LOOK_SECONDS, headroom / FILL_BYTES_PER_SECOND))


LONG_RUN_SECONDS = 0.1
"""A program that runs for longer has a tenth of the CPU weight of one that has just begun. Beside four that compute, a
short one took 5 ms (p99 32) so, and 11 (88) otherwise. Shorter takes weight from honest small ones; longer lets those
who compute keep up the others for longer."""

_LONG_RUN_WEIGHTS = {"cpu_shares": b"102", "cpu_weight": b"10"}
FRESH_WEIGHTS = {"cpu_shares": b"1024", "cpu_weight": b"100"}
"""As the kernel sets them."""


class Gauges:
    """Descriptors of cgroup files, by name, where the launcher could open them."""

    names = ("memory_stat", "memory_events", "memory_threshold", "pids_current", "pids_events", *_LONG_RUN_WEIGHTS)
    """`memory_threshold` is an eventfd: its count is 1 once the kernel watches the memory charged to the cgroup
    (files too), and more when that has crossed the limit."""

    def __init__(self, files: dict[str, int]) -> None:
        self._files = files
        self._threshold_count = 0
        self.bridges: set[int] = set()
        """Pids of processes beside the zygote and the supervisor that are no guests."""
        self.begin()

    def begin(self) -> None:
        """A child is armed: what is counted from here on is its program's."""
        self._count_anew()

    def end(self) -> None:
        """Its program is over: the next one has just begun."""
        self._weigh(FRESH_WEIGHTS)

    def next_call(self) -> None:
        """Another call of a session begins: what was counted before is not its own. What is left of others goes on to
        count with it."""
        self._count_anew()
        self._weigh(FRESH_WEIGHTS)

    def _count_anew(self) -> None:
        self._killed_before = self._oom_kills()
        self._refused_before = self._refusals()

    def has_too_many_files(self, limit: int) -> bool:
        """Of a mount that cannot limit them by itself; where it can, never."""
        return False

    def alarms(self) -> list[int]:
        """Descriptors that become readable when it is time to look."""
        return [self._files[name] for name in ("memory_threshold",) if name in self._files]

    def first_look_seconds(self) -> float:
        return RESTING_LOOK_SECONDS if self._kernel_watches() else SHORTEST_LOOK_SECONDS

    def next_look_seconds(self, used_bytes: int, limit_bytes: int) -> float:
        return RESTING_LOOK_SECONDS if self._kernel_watches() else next_look_seconds(used_bytes, limit_bytes)

    def _kernel_watches(self) -> bool:
        if "memory_threshold" not in self._files:
            return False
        self._threshold_count += _count(self._files["memory_threshold"])
        return self._threshold_count == 1

    def living(self) -> list[int]:
        """The guests."""
        return [pid for pid in guests.living() if pid not in self.bridges]

    def memory_bytes(self, until: float = FOR_EVER) -> int:
        """What the guests use; without a cgroup as far as they could be looked at by then, on the monotonic clock."""
        if "memory_stat" in self._files:
            return _field(self._read("memory_stat"), (b"anon", b"total_rss"))
        private = shared = 0
        for pid in self.living():
            # SECURITY: 250 busy processes leave us so little CPU that one look would outlast the run's time
            # (tests/hostile/test_resources.py).
            if time.monotonic() > until:
                break
            more_private, more_shared = _bytes_of(pid)
            private, shared = private + more_private, shared + more_shared
        # Pages that two guests share are private to neither. Counted once each, files that are mapped among them;
        # not added, for those that only one has mapped are in both sums.
        return max(private, shared)

    def has_hit_the_process_limit(self, limit: int) -> bool:
        """Whether a guest was refused a process; where nobody counts refusals, whether there can be no more."""
        if "pids_events" in self._files:
            return self._refusals() > self._refused_before
        if "pids_current" in self._files:
            return self.processes() >= limit
        return self.processes() > limit  # the kernel lets one more be, so that it shows (child.MARGIN_PROCESSES)

    def processes(self) -> int:
        """Processes and threads; without a cgroup processes only, the kernel's own limit holds the threads."""
        if "pids_current" in self._files:
            return int(self._read("pids_current"))
        return len(self.living())

    def stand_back(self) -> None:
        """Leave the CPU to programs that have just begun, where a cgroup can."""
        self._weigh(_LONG_RUN_WEIGHTS)

    def _weigh(self, weights: dict[str, bytes]) -> None:
        for name in weights.keys() & self._files.keys():
            with contextlib.suppress(OSError):  # it would be a courtesy; without it programs have what is theirs
                os.pwrite(self._files[name], weights[name], 0)

    def was_killed_by_the_kernel(self) -> bool:
        """Whether the kernel has ended a guest for want of memory."""
        return self._oom_kills() > self._killed_before

    def _oom_kills(self) -> int:
        return _field(self._read("memory_events"), (b"oom_kill",)) if "memory_events" in self._files else 0

    def _refusals(self) -> int:
        return _field(self._read("pids_events"), (b"max",)) if "pids_events" in self._files else 0

    def _read(self, name: str) -> bytes:
        return os.pread(self._files[name], 16384, 0)


def _count(event: int) -> int:
    """What was added to an eventfd since the last call."""
    try:
        return int.from_bytes(os.read(event, 8), sys.byteorder)
    except BlockingIOError:
        return 0


def _field(text: bytes, names: tuple[bytes, ...]) -> int:
    """The value of the first `name value` line that is there."""
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if name in names:
            return int(value)
    return 0


def _bytes_of(pid: int) -> tuple[int, int]:
    """A guest's private memory, and its part of the memory that several share."""
    try:
        return _rolled_up(pid)
    except PermissionError:  # a guest may make itself non-dumpable: then all its pages count as its own
        return resident_bytes(pid) or 0, 0
    except OSError:  # it has just ended
        return 0, 0


def _rolled_up(pid: int) -> tuple[int, int]:
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        found = {name: int(value) * KIB for name, value in _ROLLED_UP.findall(file.read())}
    return found.get(b"Private_Dirty", 0), found.get(b"Pss_Shmem", 0)


def resident_bytes(pid: int) -> int | None:
    """Of its own; anybody may read that. None when it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = map(int, file.read().split()[:3])
    except OSError:
        return None
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
