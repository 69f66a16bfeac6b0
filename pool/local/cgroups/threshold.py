"""Has the kernel say when the memory charged to a v1 cgroup crosses a mark. v2 has nothing like it.

Registering a mark waits for a grace period of the kernel's RCU, 13 to 23 ms of sleep: threads do it, and
the supervisor polls until it is told, by the first event, that the kernel watches.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from pool.local.cgroups import files

THREADS = 4
"""They sleep. One registers some 60 marks a second, and only folders that are new need one."""


class Threshold:
    """One cgroup's mark. The count of `event` is 1 once the kernel watches, and more when the mark was crossed."""

    def __init__(self, folder: str, mark_bytes: int) -> None:
        self.event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._folder, self._mark_bytes = folder, mark_bytes
        self._registered: Future[None] | None = None

    def register(self, threads: ThreadPoolExecutor) -> None:
        self._registered = threads.submit(self._register)

    def _register(self) -> None:
        usage = f"{self._folder}/memory.usage_in_bytes"
        with open(usage, "rb") as file:
            words = f"{self.event} {file.fileno()} {self._mark_bytes}"
            files.write(f"{self._folder}/cgroup.event_control", words)
        # Crossed before the kernel watched, it would never be told.
        os.eventfd_write(self.event, 1 if int(files.read(usage)) < self._mark_bytes else 2)

    def is_being_registered(self) -> bool:
        """While a thread is at it the kernel makes whoever removes the folder wait."""
        return self._registered is not None and not self._registered.done()

    def renew(self) -> None:
        """For the next sandbox: forget that the mark was crossed."""
        if self.is_being_registered() or self._registered is None or self._registered.exception():
            return
        with suppress(BlockingIOError):
            os.eventfd_read(self.event)
        os.eventfd_write(self.event, 1)

    def close(self) -> None:
        os.close(self.event)
