"""Deaths of child processes, as a descriptor to poll: no handler runs in between, and none is there to be signalled."""

from __future__ import annotations

import os
import signal

from sandbox_runtime import kernel

_RECORD_BYTES = 128
"""sizeof(struct signalfd_siginfo)."""


class Deaths:
    """One for the process that reaps."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        self.descriptor = kernel.signalfd([signal.SIGCHLD])
        self._records = bytearray(16 * _RECORD_BYTES)

    def reap(self) -> list[tuple[int, int]]:
        """Collect all who are dead: pid and status as `os.waitstatus_to_exitcode` gives it."""
        # One signal may stand for many deaths, so how many were read says nothing. SECURITY: they tell of a program's
        # end, and what is freed here the next child has in its memory (tests/unit/test_deaths.py).
        os.readv(self.descriptor, [self._records])
        self._records[:] = bytes(len(self._records))
        return self.reap_all()

    def reap_all(self) -> list[tuple[int, int]]:
        """The same without waiting to be told."""
        dead: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return dead
            if pid == 0:
                return dead
            dead.append((pid, os.waitstatus_to_exitcode(status)))


def forget() -> None:
    """In a fork that reaps nobody: signals as they were."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
