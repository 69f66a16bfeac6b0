"""What a case leaves behind, seen from outside: the processes, mounts and cgroups of one pool.

A sandbox is retired behind the back of its caller, so everything here is looked at until it is as it
should be, or until it has had time enough.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pool import Snapshot
from pool.local import LocalBackend
from pool.local.cgroups.limits import STARTING
from tests.sandboxes import Sandboxes, plan, sandboxes

SETTLE_SECONDS = 10.0
"""Retiring takes milliseconds; a sandbox full of a bomb's dead on a busy machine takes seconds."""

LOOK_SECONDS = 0.002

PER_SANDBOX = 3
"""Zygote, supervisor, armed child."""

OF_CONTAINERS = ("/testcluster/", "/containers/storage/")
"""Folders of the test cluster, whose pods come and go as they like, and of what builds their images."""

LAUNCHER = 3
"""Keeper, nursery, template."""


class Process(NamedTuple):
    pid: int
    parent: int
    started: int
    """In clock ticks since boot: with the pid, the process's identity."""
    name: str
    is_dead: bool
    """And not yet reaped by its parent."""


def processes() -> dict[int, Process]:
    """All processes of the machine that are not yet reaped."""
    found = (_process(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))))
    return {process.pid: process for process in found if process is not None}


def _process(pid: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Process(pid, int(fields[1]), int(fields[19]), name, is_dead=fields[0] == "Z")


def descendants(ancestor: int) -> list[Process]:
    """All processes below `ancestor`, itself not included. The dead that nobody has reaped count."""
    everyone = processes()
    found, parents = [], {ancestor}
    while parents:
        children = [process for process in everyone.values() if process.parent in parents]
        found += children
        parents = {process.pid for process in children}
    return found


def mounts() -> Counter[str]:
    """What is mounted where in our own view: a mount of a sandbox has no business there. A container's has."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return Counter(" ".join(line.split()[3:]) for line in lines if not any(part in line for part in OF_CONTAINERS))


def until(holds: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> bool:
    """Look again and again until it holds; False when time is up. For what the kernel tells nobody."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return holds()
        threading.Event().wait(LOOK_SECONDS)
    return True


class Estate:
    """What a pool owns when nothing runs in it."""

    def __init__(self, boxes: Sandboxes, keeper: Process) -> None:
        self.boxes, self.keeper = boxes, keeper
        self._mounts = mounts()

    def snapshot(self) -> Snapshot:
        return self.boxes.portal.call(self.boxes.pool.snapshot)

    def processes(self) -> list[Process]:
        return descendants(self.keeper.pid)

    def group_parents(self) -> list[str]:
        """The folders that hold the cgroups of this pool's sandboxes; none where cgroups cannot be had."""
        backend = self.boxes.pool.backend
        assert isinstance(backend, LocalBackend)
        return backend._groups.parents

    def leftovers(self) -> list[str]:
        """What is there and should not be, once the pool has had time to put itself in order."""
        until(lambda: not self._surplus())
        return self._surplus()

    def _surplus(self) -> list[str]:
        snapshot = self.snapshot()
        return [
            *self._unsettled(snapshot),
            *self._extra_processes(snapshot.size),
            *self._extra_mounts(),
            *self._extra_members(snapshot.size),
        ]

    def _unsettled(self, snapshot: Snapshot) -> list[str]:
        """As many sandboxes as there should be, all idle, and none on its way out."""
        settled = sum(snapshot.slots.values()) == snapshot.slots["ready"] == snapshot.size
        return [] if settled else [f"the pool has not settled: {snapshot}"]

    def _extra_processes(self, size: int) -> list[str]:
        below, expected = self.processes(), LAUNCHER - 1 + PER_SANDBOX * size
        return [] if len(below) == expected else [f"{len(below)} processes, not {expected}: {below}"]

    def _extra_mounts(self) -> list[str]:
        return [f"mount {line}" for line in mounts() - self._mounts]

    def _extra_members(self, size: int) -> list[str]:
        """In the sandboxes' cgroups there is one armed child for each, and nothing else."""
        counts = {parent: len(_members(parent)) for parent in self.group_parents()}
        return [f"{count} processes in {parent}, not {size}" for parent, count in counts.items() if count != size]


def _members(parent: str) -> list[str]:
    doors = [door for door in Path(parent).glob("*/cgroup.procs") if door.parent.name != STARTING]
    return [pid for door in doors for pid in _lines(door)]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # removed while we looked
        return []


@contextmanager
def opened(*, trees: Sequence[str] = (), **planned: Any) -> Iterator[Estate]:
    """A pool with a launcher of its own, planned as by `tests.sandboxes.plan`; `trees` are shown in the sandbox too."""
    before = {process.pid for process in descendants(os.getpid())}
    made = plan(**planned)
    environment = msgspec.structs.replace(made.environment, trees=(*made.environment.trees, *trees))
    with sandboxes(msgspec.structs.replace(made, environment=environment)) as boxes:
        keepers = [each for each in descendants(os.getpid()) if each.pid not in before and each.parent == os.getpid()]
        assert len(keepers) == 1, keepers
        yield Estate(boxes, keepers[0])
