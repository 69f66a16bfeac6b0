"""What was written and nobody takes: the connection ends, with all that waits for room in it."""

from __future__ import annotations

import asyncio

# A peer that takes nothing for so long is gone, or means to hold memory. Less cuts off networks that stall.
STALL_SECONDS = 30.0


class UnreadWatch:
    """While it is on, looks every `STALL_SECONDS`, and aborts a transport whose buffer has not shrunk since.

    For times in which nothing more is written: a buffer that is filled again looks like one that nobody empties.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._unread_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._look_later()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._unread_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(STALL_SECONDS, self._look)

    def _look(self) -> None:
        # SECURITY: a client that shows a zero window would hold what it was answered, and whatever waits to answer it,
        # for as long as it likes (tests/integration/test_http_held.py).
        if self._transport.get_write_buffer_size() < self._unread_bytes:
            self._look_later()
        else:
            self._transport.abort()
