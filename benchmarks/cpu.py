"""CPU time of a service with all its sandboxes, and of the whole machine.

Who waits for a dead child is given its CPU time; when the first process of a PID namespace dies nobody waits for the
others, and what they used is given to nobody. So a sandbox's time cannot be had from /proc: the service runs in a
cgroup of its own that only counts. Where none can be made, the machine as a whole is what there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CONTROLLING = ("cpu", "memory", "pids")


class Meter:
    """Counts for the processes that enter, and for all that they start."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def enter(self, pid: int) -> None:
        if self._folder is not None:
            (self._folder / "cgroup.procs").write_text(str(pid))

    def seconds(self) -> float | None:
        """None where nothing counts."""
        if self._folder is None:
            return None
        lines = (self._folder / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6


@contextmanager
def meter() -> Iterator[Meter]:
    folder = _folder()
    if folder is None:
        yield Meter(None)
        return
    try:
        yield Meter(folder)
    finally:
        with suppress(OSError):  # its last dead are not reaped yet: an empty folder stays behind
            folder.rmdir()


def _folder() -> Path | None:
    """A new cgroup v2 that controls nothing: the service must find the same controllers as without it."""
    own = _own_cgroup()
    if own is None or set(_CONTROLLING) & set((own / "cgroup.controllers").read_text().split()):
        return None
    folder = own / f"code-interpreter-benchmark-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    return folder if (folder / "cpu.stat").exists() else None


def _own_cgroup() -> Path | None:
    mounts = [line.partition(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [head.split()[4] for head, _, tail in mounts if tail.startswith("cgroup2 ")]
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    return Path(points[0] + paths[0]) if points and paths and Path(points[0] + paths[0]).is_dir() else None


def machine_seconds() -> float:
    """CPU time of everything that runs here, the kernel's own threads too."""
    user, nice, system, _, _, irq, soft_irq = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + soft_irq) / _TICKS_PER_SECOND
