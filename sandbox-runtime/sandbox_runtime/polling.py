"""A loop over descriptors: who is ready gets called. Nothing more, so that a supervisor starts in a millisecond."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
WRITABLE = select.POLLOUT | select.POLLERR

FOR_EVER = float("inf")
"""On the monotonic clock: never."""

LONGEST_WAIT_MS = 3_600_000.0
"""`poll` takes no more than 2**31, and nobody minds a turn for nothing now and then."""


class Loop:
    """One `poll`; callbacks by descriptor."""

    __slots__ = ("_poll", "_callbacks")

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], object]] = {}

    def on(self, descriptor: int, callback: Callable[[], object], events: int = READABLE) -> None:
        self._callbacks[descriptor] = callback
        self._poll.register(descriptor, events)

    def off(self, descriptor: int) -> None:
        if self._callbacks.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def turn(self, until: float | None = None) -> None:
        """Wait for descriptors, at the longest until `until` on the monotonic clock, and call who is ready."""
        wait_ms = None if until is None else min(LONGEST_WAIT_MS, max(0.0, (until - time.monotonic()) * 1000))
        for descriptor, _ in self._poll.poll(wait_ms):
            callback = self._callbacks.get(descriptor)
            if callback is not None:  # an earlier callback of this turn may have taken it off
                callback()
