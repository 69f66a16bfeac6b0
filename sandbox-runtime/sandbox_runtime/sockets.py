"""AF_UNIX sockets of this network namespace, and the end of those that nobody can reach any more."""

from __future__ import annotations

import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Rows = list[list[bytes]]

LISTED = "/proc/net/unix"

COLLECT_SECONDS = 0.1
"""For the kernel to collect what is in flight, which takes some 5 ms. Shorter gives up sandboxes of busy machines;
longer keeps those that are to go."""

LOOK_SECONDS = 0.002
"""Between two looks. What the kernel collects it closes at its clock's next tick."""

_TYPE_AND_STATE, _NAME = slice(4, 6), slice(7, 8)


def rows(listed: bytes) -> Rows:
    """Of each socket its type, its state, and its name where it has one.

    Not the numbers, nor whether it listens: a pod's processes bind theirs anew for each run.

    SECURITY: those without a name too, and each of those with one name. Sockets in flight, in a ring that nobody can
    reach, outlive their program with a message and all that they carry (tests/hostile/test_recycling.py).
    """
    return sorted(words[_TYPE_AND_STATE] + words[_NAME] for words in map(_words, listed.splitlines()[1:]))


def _words(line: bytes) -> list[bytes]:
    return line.split(None, 7)


def settled(look: Callable[[], Rows], expected: Rows) -> Rows:
    """What there is once it is as expected, or when the kernel has had its time."""
    until = time.monotonic() + COLLECT_SECONDS
    while (found := look()) != expected and time.monotonic() < until:
        _start_the_collector()
        time.sleep(LOOK_SECONDS)
    return found


def _start_the_collector() -> None:
    """The end of any such socket does. Each time: what was collected may have held more."""
    for end in socket.socketpair():
        end.close()
