"""One template as the service sees it: a socket on which it takes orders, and a handle to end it by."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from pool.local.control import Control


class Template:
    """A process that has everything loaded, and forks zygotes."""

    def __init__(self, peer: socket.socket, on_lost: Callable[[Template, str], None]) -> None:
        self.preloaded: tuple[str, ...] = ()
        self.control = Control(peer, "the template", lambda why: on_lost(self, why))
        self._handle = -1

    async def load(self, handle: int, *, seconds: float) -> None:
        """Take its pidfd, and wait until it has loaded everything."""
        self._handle = handle
        words = await self.control.announcement(seconds=seconds)
        self.preloaded = tuple(words["loaded"])  # type: ignore[arg-type]  # our own template, before any guest

    def finish(self) -> None:
        """It forks no more, and ends after the last sandbox that it was the template of."""
        self.control.finish()
        self._forget()

    def kill(self) -> None:
        if self._handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self.control.close()
        self._forget()

    def _forget(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
