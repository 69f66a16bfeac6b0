"""Which of a session's channels may go. Pure.

A bridge whose broker is gone may never see its end (containerd#8856), and a guest may knock as often as it likes.
"""

from __future__ import annotations

from sandbox_runtime.polling import FOR_EVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox_runtime.line import Line

FORSAKEN_SECONDS = 150.0
"""Without a word either way, and with no call that waits or runs. The broker drops what it has not used for a minute;
longer keeps bridges that nobody holds, shorter closes what a slow broker still has."""


def idle(lines: Sequence[Line], busy: Sequence[Line]) -> list[Line]:
    """Bridges that nobody would miss now, the longest unused first; `busy` have a call. The exec's own is none."""
    found = [line for line in lines if line.is_proved and line.peer and line not in busy]
    return sorted(found, key=lambda line: line.used_at)


def forsaken_at(lines: Sequence[Line], busy: Sequence[Line]) -> float:
    """When the next of them has been idle for too long, on the monotonic clock."""
    return min((line.used_at + FORSAKEN_SECONDS for line in idle(lines, busy)), default=FOR_EVER)


def to_spare(lines: Sequence[Line], busy: Sequence[Line], *, for_bridge: bool) -> Line | None:
    """The one that makes room for another. SECURITY: a guest that knocks keeps no replica out, and costs none its
    channel: of those that have shown no token the oldest goes (tests/kube/sessions/test_doors.py)."""
    knocking = [line for line in lines if not line.is_proved]
    return next(iter(knocking + (idle(lines, busy) if for_bridge else [])), None)
