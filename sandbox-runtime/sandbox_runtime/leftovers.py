"""What a call of a session leaves running: its output is thrown away, and its size is watched."""

from __future__ import annotations

import os
import time

from sandbox_runtime import guests
from sandbox_runtime.polling import FOR_EVER

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

REST_SECONDS = 0.01
"""Between two reads of a pipe. SECURITY: what is written there is paid for by the guest, and read at our cost: shorter
lets a flood take more of a core (tests/contract/test_session.py)."""


class Leftovers:
    def __init__(self, loop: Loop, gauge: gauges.Gauges, limits: dict[str, int]) -> None:
        self._loop, self._gauge, self._limits = loop, gauge, limits
        self._next_look = FOR_EVER
        self._pipes: dict[int, int] = {}
        """Bytes that each may still be written to; the oldest first."""
        self._resting: list[int] = []
        self._rest_until = FOR_EVER

    def next_event(self, *, watched: bool) -> float:
        """`watched`: a call runs, whose own watch looks at them too."""
        return self._rest_until if watched else min(self._next_look, self._rest_until)

    def keep_open(self, pipes: Iterable[int]) -> None:
        """Read them to their end, as far as a run's output is read."""
        for descriptor in pipes:
            self._pipes[descriptor] = self._limits["output_kill_bytes"]
            self._read_again(descriptor)
        while len(self._pipes) > MOST_PIPES:
            self._shut(next(iter(self._pipes)))

    def expect(self, ours: int = 1) -> None:
        """A call has ended: look again soon, if something goes on beside the armed child, where there is one."""
        self._next_look = time.monotonic() + LOOK_SECONDS if len(self._gauge.living()) > ours else FOR_EVER

    def rested(self) -> None:
        if time.monotonic() >= self._rest_until:
            resting, self._resting, self._rest_until = self._resting, [], FOR_EVER
            for descriptor in resting:
                self._read_again(descriptor)

    def look(self) -> bool:
        """Where they take more than a call may, all of them are ended: nobody can tell whose it is. Then True."""
        if time.monotonic() < self._next_look:
            return False
        gauge, limits = self._gauge, self._limits
        too_much = gauge.memory_bytes(time.monotonic() + LOOK_SECONDS) > limits["memory_bytes"]
        too_many = gauge.has_hit_the_process_limit(limits["processes"])
        is_over = too_much or too_many or gauge.has_too_many_files(limits["inodes"])
        if is_over:
            guests.kill_all_but_bridges()
            gauge.next_call()
        self.expect()
        return is_over

    def _read_again(self, descriptor: int) -> None:
        if descriptor in self._pipes:
            self._loop.on(descriptor, lambda: self._throw_away(descriptor))

    def _throw_away(self, descriptor: int) -> None:
        try:
            count = len(os.read(descriptor, READ_BYTES))
        except BlockingIOError:
            return
        self._pipes[descriptor] -= count
        if not count or self._pipes[descriptor] < 0:
            self._shut(descriptor)
            return
        self._loop.off(descriptor)
        self._resting.append(descriptor)
        self._rest_until = min(self._rest_until, time.monotonic() + REST_SECONDS)

    def _shut(self, descriptor: int) -> None:
        del self._pipes[descriptor]
        if descriptor in self._resting:
            self._resting.remove(descriptor)
        self._loop.off(descriptor)
        os.close(descriptor)
