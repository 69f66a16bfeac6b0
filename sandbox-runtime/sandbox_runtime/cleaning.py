"""Between two programs: wipe what the last one left, and prove that all is as it was before the first.

    Baseline() ── taken before the first program
    Baseline.restore() ── wipes, compares, and returns what is not as it was

SECURITY: whatever is not compared here is what a program can leave for the next one. `tests/hostile/test_recycling.py`
seeds one leak of each kind; `tests/integration/test_residue.py` looks for others over many runs.
"""

from __future__ import annotations

import os
import resource
import time

from sandbox_runtime import gauges, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

WIPE_SECONDS = 5.0
"""20 000 files take 0.3 s. A sandbox that takes longer is not worth it: a new one is quicker."""

_IPC = ("/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg")
_MESSAGE_QUEUES = "/dev/mqueue"
_LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]


class Baseline:
    """What the sandbox was like before its first program."""

    def __init__(self, font_lists: str) -> None:
        self._font_lists = font_lists
        self._places = {place: places.State(place) for place in places.WRITABLE}
        self._facts = _facts()

    def restore(self) -> tuple[list[str], dict[str, int]]:
        """Findings, in words that a program could not choose, and the evidence in numbers. No guest lives."""
        until = time.monotonic() + WIPE_SECONDS
        findings: list[str] = []
        wiped = 0
        for place in places.WRITABLE:
            try:
                wiped += self._wipe(place, until)
            except OSError as error:
                findings.append(f"{place} could not be wiped: {error.strerror or 'there was no end to it'}")
        try:
            places.lay_out_tmp(self._font_lists)
        except OSError as error:
            findings.append(f"matplotlib's folder could not be laid out: {error.strerror}")
        self._restore_times()
        findings += self._differences()
        return findings, {"wiped": wiped, "places": len(places.WRITABLE), "facts": len(self._facts)}

    def _wipe(self, place: str, until: float) -> int:
        if os.stat(place).st_uid == os.getuid():
            os.chmod(place, 0o700)  # a program may have closed it even to us
        return places.wipe(place, until)

    def _restore_times(self) -> None:
        for place, before in self._places.items():
            places.restore(place, before)

    def _differences(self) -> list[str]:
        now = _facts()
        found = [f"{name} is not as it was" for name, value in self._facts.items() if now.get(name) != value]
        for place, before in self._places.items():
            found += [f"{name} of {place} is not as it was" for name in places.State(place).differences(before)]
        return found


def _facts() -> dict[str, object]:
    """All that two programs of a sandbox share beside its files."""
    facts: dict[str, object] = {"the list of processes": gauges.guests(), "the mounts": _read("/proc/self/mountinfo")}
    facts.update({path: _read(path) for path in _IPC})
    facts["the message queues"] = sorted(os.listdir(_MESSAGE_QUEUES)) if os.path.isdir(_MESSAGE_QUEUES) else []
    for name, who in (("the zygote", 1), ("the supervisor", os.getpid())):
        facts[f"the limits of {name}"] = _limits(who)
        facts[f"the niceness of {name}"] = _or_none(lambda who=who: os.getpriority(os.PRIO_PROCESS, who))  # type: ignore[misc]  # it is called before the loop goes on
        facts[f"the affinity of {name}"] = _or_none(lambda who=who: sorted(os.sched_getaffinity(who)))  # type: ignore[misc]
        facts[f"the scheduling of {name}"] = _or_none(lambda who=who: os.sched_getscheduler(who))  # type: ignore[misc]
    return facts


def _limits(who: int) -> object:
    return _or_none(lambda: [resource.prlimit(who, getattr(resource, name)) for name in _LIMITS])


def _or_none(read: Callable[[], object]) -> object:
    try:
        return read()
    except OSError:  # not for us to know, then nor for a program to change
        return None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
