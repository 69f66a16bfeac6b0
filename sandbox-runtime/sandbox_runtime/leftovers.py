"""What a call of a session leaves running: its output is thrown away, and its size is watched."""

from __future__ import annotations

import os
import time
from collections import deque

from sandbox_runtime import guests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox_runtime import gauges
    from sandbox_runtime.polling import Loop

READ_BYTES = 256 * 1024

LOOK_SECONDS = 0.25
"""Between two looks. Shorter costs CPU for every session that has a server; longer lets a bomb in the background grow
for longer."""

MOST_PIPES = 64
"""Streams of ended calls that are still read, so that what writes to them goes on. Past that the oldest is closed."""

FOR_EVER = float("inf")


class Leftovers:
    def __init__(self, loop: Loop, gauge: gauges.Gauges, limits: dict[str, int]) -> None:
        self.next_look = FOR_EVER
        self._loop, self._gauge, self._limits = loop, gauge, limits
        self._pipes: deque[int] = deque()

    def keep_open(self, pipes: Iterable[int]) -> None:
        """Read them to their end."""
        for descriptor in pipes:
            self._pipes.append(descriptor)
            self._loop.on(descriptor, lambda number=descriptor: self._throw_away(number))  # type: ignore[misc]
        while len(self._pipes) > MOST_PIPES:
            self._shut(self._pipes[0])

    def expect(self) -> None:
        """A call has ended: look again soon, if something goes on beside the armed child."""
        self.next_look = time.monotonic() + LOOK_SECONDS if len(guests.living()) > 1 else FOR_EVER

    def look(self) -> None:
        """Where they take more than a call may, all of them are ended: nobody can tell whose it is."""
        if time.monotonic() < self.next_look:
            return
        gauge, limits = self._gauge, self._limits
        too_much = gauge.memory_bytes(time.monotonic() + LOOK_SECONDS) > limits["memory_bytes"]
        too_many = gauge.has_hit_the_process_limit(limits["processes"])
        if too_much or too_many or gauge.has_too_many_files(limits["inodes"]):
            guests.kill_all()
        self.expect()

    def _throw_away(self, descriptor: int) -> None:
        try:
            if os.read(descriptor, READ_BYTES):
                return
        except BlockingIOError:
            return
        self._shut(descriptor)

    def _shut(self, descriptor: int) -> None:
        self._pipes.remove(descriptor)
        self._loop.off(descriptor)
        os.close(descriptor)
