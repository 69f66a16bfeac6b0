"""The guests: all processes of a sandbox but its zygote and its supervisor. Who they are, and their end."""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "CODE_INTERPRETER_CALL"
"""A variable that a call of a session gives to all that it starts. Who loses it, its session and its parents too,
outlives the call's timeout, and nothing more: the session ends it."""

STANDING_SECONDS = 3.0
"""For guests to die. Where there are new ones beside bridges even then, all are killed, bridges too: longer lets a bomb
hold up the session, shorter costs other replicas their channels on busy machines."""


def living() -> list[int]:
    own = os.getpid()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in (1, own)]


def kill_all() -> None:
    _signal_all(signal.SIGKILL)


def _signal_all(number: int) -> None:
    # Atomic against fork: the kernel holds the task list, so no bomb outruns it; spares PID 1 and the caller.
    try:
        os.kill(-1, number)
    except ProcessLookupError:  # nobody is left
        return


def came_from_outside(pid: int) -> bool:
    """Whether it was exec'd into this container, as bridges are: its parent is in no PID namespace of ours, and shows
    as 0.

    SECURITY: no guest can get that. Whoever outlives its parent falls to PID 1, and namespaces of its own are refused
    (tests/kube/sessions/test_ends.py).
    """
    try:
        return _lineage(pid)[0] == 0
    except OSError:  # it has just ended
        return False


def kill_all_but_bridges() -> None:
    """The same, but for those who carry what others have to hear of it. Returns when they are gone: what is still dying
    would count with the call that comes next (tests/contract/test_session.py)."""
    if not any(map(came_from_outside, living())):
        kill_all()
        _await_the_dead()
        return
    try:
        _stop_and_kill()
    finally:
        kill(filter(came_from_outside, living()), signal.SIGCONT)


def _await_the_dead() -> None:
    deadline = time.monotonic() + STANDING_SECONDS
    while time.monotonic() < deadline and not all(map(came_from_outside, living())):
        time.sleep(0.001)


def _stop_and_kill() -> None:
    killed: set[int] = set()
    is_new = True
    deadline = time.monotonic() + STANDING_SECONDS
    while time.monotonic() < deadline:
        # As atomic against fork as SIGKILL, and who stands still forks no more. SECURITY: one that was just sending
        # SIGCONT may have woken another: so again, until nobody is found.
        _signal_all(signal.SIGSTOP)
        found = {pid for pid in living() if not came_from_outside(pid)}
        if not found:
            return
        kill(found)
        is_new, killed = not found <= killed, killed | found
        time.sleep(0.001)
    if is_new:
        kill_all()


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def of_call(first: int, call: str) -> set[int]:
    """Those that a call has started, as far as they can be told: its first process, those of its session, those that
    carry its mark, and all that came from these."""
    mark = f"{MARK}={call}".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid in living():
        try:
            parents[pid], session, state = _lineage(pid)
            if state == b"Z":
                continue  # dead, and kept by a parent that does not ask
            if pid == first or session == first or mark in _environment(pid):
                found.add(pid)
        except OSError:  # it has just ended
            continue
    return _with_descendants(found, parents)


def _with_descendants(found: set[int], parents: dict[int, int]) -> set[int]:
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _lineage(pid: int) -> tuple[int, int, bytes]:
    """Its parent, its session, and its state."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name before the last bracket is the guest's to choose, with spaces and brackets in it.
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[1]), int(fields[3]), fields[0]


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read(1 << 18).split(b"\0")
    except PermissionError:  # it has made itself non-dumpable, or is a channel's
        return []
