"""One run: its pipes, its clock, its budgets, and how it ended.

    armed --start()--> running --end(...)--> ended

The child says its status on the control pipe as its last act, which is 4 ms earlier than the kernel
tells of its death; what else comes there is ignored. SECURITY: a program that forges that message
lies about itself only (tests/hostile/test_pipes.py).
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import time

from sandbox_runtime import child, gauges, wire
from sandbox_runtime.polling import FOR_EVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from sandbox_runtime.polling import Loop

READ_BYTES = 64 * 1024
DRAIN_BYTES = 2**20
"""Read from a pipe after the end: no pipe of an ordinary user can hold more (/proc/sys/fs/pipe-max-size)."""

HAND_OVER_SECONDS = 5.0
"""For a child to take its request in, which it waits for."""

CLOSED = -1

_STATUS = re.compile(rb"D(\d{1,3})(?: ([a-z_,]*))?\Z")


class Pipes:
    """Our ends of the child's five pipes."""

    __slots__ = ("request", "stdin", "stdout", "stderr", "control")

    def __init__(self, ours: dict[str, int]) -> None:
        for name in child.Order.names:
            setattr(self, name, ours[name])
            os.set_blocking(ours[name], name in ("request", "control"))

    request: int
    stdin: int
    stdout: int
    stderr: int
    control: int

    def close_but_output(self, loop: Loop) -> list[int]:
        """Returns those that others may still write to."""
        for descriptor in {self.stdin, self.control} - {CLOSED}:
            loop.off(descriptor)
            os.close(descriptor)
        return [self.stdout, self.stderr]

    def close_all(self, loop: Loop) -> None:
        """Those of a child that never got its request: it ends."""
        os.close(self.request)
        self.close(loop)

    def close(self, loop: Loop) -> None:
        """All that are still open, once their run is over."""
        for descriptor in {self.stdin, self.stdout, self.stderr, self.control} - {CLOSED}:
            loop.off(descriptor)
            os.close(descriptor)


def open_pipes() -> tuple[Pipes, list[int]]:
    """Five pipes: our ends, and the child's ends in the order of `child.Order.names`."""
    ours: dict[str, int] = {}
    theirs: list[int] = []
    for name in child.Order.names:
        reading, writing = os.pipe()
        ours[name], other = (writing, reading) if name in ("request", "stdin") else (reading, writing)
        theirs.append(other)
    return Pipes(ours), theirs


class End:
    """How a run ended. `exit_code` is None for a timeout and a cancel."""

    __slots__ = ("reason", "exit_code", "signal", "at", "limits_hit")

    def __init__(
        self, reason: str, exit_code: int | None, signal_name: str | None = None, limits_hit: Sequence[str] = ()
    ) -> None:
        self.reason, self.exit_code, self.signal = reason, exit_code, signal_name
        self.at = time.monotonic()
        self.limits_hit = list(limits_hit)


def killed(reason: str, limits_hit: Sequence[str] = ()) -> End:
    """An end that we make: the status is the one of SIGKILL, except where there is none to tell."""
    exit_code = None if reason in ("timeout", "cancelled") else 128 + signal.SIGKILL
    return End(reason, exit_code, "SIGKILL", limits_hit)


def end_of_process(status: int) -> End:
    """The end as the kernel tells it: `status` as in `os.waitstatus_to_exitcode`."""
    if status >= 0:
        return End("exited", status)
    return End("signal", 128 - status, _signal_name(-status))


def _signal_name(number: int) -> str | None:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between SIGRTMIN and SIGRTMAX has none
        return None


class Run:
    """A program while it runs."""

    def __init__(
        self, pipes: Pipes, limits: dict[str, int], gauge: gauges.Gauges, pass_on: Callable[[str, bytes], None]
    ):
        self.ended: End | None = None
        self.truncated = {"stdout": False, "stderr": False}
        self._pipes, self._limits, self._gauge, self._to_broker = pipes, limits, gauge, pass_on
        self._seen_bytes = {"stdout": 0, "stderr": 0}
        self._stdin = memoryview(b"")
        self._deadline = self._next_look = self._long_from = 0.0

    def start(self, words: dict[str, object], timeout_ms: int, stdin: bytes, loop: Loop) -> None:
        """Hand the request to the child (`child.Request`). From here the clock runs."""
        self.started = time.monotonic()
        self._deadline = self.started + timeout_ms / 1000
        self._next_look = self.started + self._gauge.first_look_seconds()
        self._long_from = self.started + gauges.LONG_RUN_SECONDS
        self._stdin = memoryview(stdin)
        # SECURITY: a program can open the other end of its pipes through /proc and read what it wrote: we would
        # wait for that byte, and no clock would run (tests/hostile/test_pipes.py).
        os.set_blocking(self._pipes.control, False)
        _hand_over(self._pipes.request, json.dumps(words).encode())
        loop.on(self._pipes.stdout, lambda: self._output("stdout", loop))
        loop.on(self._pipes.stderr, lambda: self._output("stderr", loop))
        loop.on(self._pipes.control, lambda: self._control(loop))
        loop.on(self._pipes.stdin, lambda: self._feed(loop), 4)
        for descriptor in self._gauge.alarms():
            loop.on(descriptor, self._look_at_gauges)

    def end(self, end: End) -> None:
        """Record how it ended; what comes first counts."""
        self.ended = self.ended or end

    # --- what happens while it runs

    def next_event(self) -> float:
        return min(self._deadline, self._next_look, self._long_from)

    def look(self) -> None:
        """Enforce the clock and the limits that no one but us enforces."""
        now = time.monotonic()
        if now >= self._long_from:
            self._long_from = FOR_EVER
            self._gauge.stand_back()
        if now >= self._deadline:
            self.end(killed("timeout"))
        elif now >= self._next_look:
            self._look_at_gauges()

    def _look_at_gauges(self) -> None:
        # The processes first: counting them is quick however many there are.
        if self._gauge.has_hit_the_process_limit(self._limits["processes"]):
            self.end(killed("process_limit"))
            return
        used_bytes, most_bytes = self._gauge.memory_bytes(self._deadline), self._limits["memory_bytes"]
        if used_bytes > most_bytes:
            self.end(killed("oom"))
        elif self._gauge.has_too_many_files(self._limits["inodes"]):
            self.end(killed("oom", ["inodes"]))
        self._next_look = time.monotonic() + self._gauge.next_look_seconds(used_bytes, most_bytes)

    def process_ended(self, status: int) -> None:
        """The kernel's word on the child. Its own, which names limits too, may have come in the same moment."""
        self._hear_status()
        oom = status == -signal.SIGKILL and self._gauge.was_killed_by_the_kernel()
        self.end(killed("oom") if oom else end_of_process(status))

    def _control(self, loop: Loop) -> None:
        # SECURITY: once is enough. Reading more of what a guest can write here for ever, a byte at a time, would be
        # paid for by us and not by its cgroup (tests/hostile/test_pipes.py).
        if self._hear_status() is not None:
            loop.off(self._pipes.control)

    def _hear_status(self) -> bytes | None:
        said = _read(self._pipes.control)
        match = _STATUS.match(said or b"")
        if match and int(match[1]) <= 255:
            self.end(End("exited", int(match[1]), limits_hit=_known(match[2])))
        return said

    def _feed(self, loop: Loop) -> None:
        try:
            self._stdin = self._stdin[os.write(self._pipes.stdin, self._stdin) :] if self._stdin else self._stdin
        except BlockingIOError:
            return
        except OSError:  # the program closed its stdin
            self._stdin = memoryview(b"")
        if not self._stdin:
            loop.off(self._pipes.stdin)
            os.close(self._pipes.stdin)
            self._pipes.stdin = CLOSED

    def _output(self, stream: str, loop: Loop) -> None:
        descriptor = getattr(self._pipes, stream)
        data = _read(descriptor)
        if data is None:
            return
        if not data:
            loop.off(descriptor)
        self._pass_on(stream, data)
        if self._seen_bytes[stream] >= self._limits["output_kill_bytes"]:
            self.end(killed("output_limit"))

    def _pass_on(self, stream: str, data: bytes) -> None:
        room = max(0, self._limits["output_bytes"] - self._seen_bytes[stream])
        self._seen_bytes[stream] += len(data)
        if len(data) > room:
            self.truncated[stream] = True
        if room and data:
            self._to_broker(stream, data[:room])

    # --- after its end

    def drain(self, loop: Loop) -> None:
        """Take what is still in the pipes, and no more from then on. Bounded: a daemon may go on writing."""
        # What a daemon writes while the report goes out would come after it, and break the protocol.
        for name in ("stdin", "control", *wire.STREAMS):
            loop.off(getattr(self._pipes, name))
        for descriptor in self._gauge.alarms():
            loop.off(descriptor)
        for stream in wire.STREAMS:
            drained = 0
            while drained < DRAIN_BYTES:
                data = _read(getattr(self._pipes, stream))
                if not data:
                    break
                drained += len(data)
                self._pass_on(stream, data)


def _read(descriptor: int) -> bytes | None:
    """What is there; b"" at the end of the stream; None when there is nothing yet."""
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None


def _hand_over(descriptor: int, data: bytes) -> None:
    left, poll = memoryview(data), select.poll()
    poll.register(descriptor, select.POLLOUT)
    os.set_blocking(descriptor, False)
    try:
        # SECURITY: a guest of a session may have stopped the child. It then runs out of its time like any other.
        while left and poll.poll(HAND_OVER_SECONDS * 1000):
            left = left[os.write(descriptor, left) :]
    except BrokenPipeError:  # the child died before its request came: its status tells
        pass
    os.close(descriptor)


def _known(names: bytes | None) -> list[str]:
    said = set((names or b"").decode("ascii").split(","))
    return [name for name in wire.RESOURCES if name in said]
