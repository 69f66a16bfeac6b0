"""The stream of one exec as a channel: bytes to and from the process, and nothing of what lies around them.

SECURITY: however it ends, it ends as `ChannelLost`: `Success` is what a killed kubelet says as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import aiohttp
import anyio

from pool.errors import ChannelLost, RemoteProtocolError
from pool.kube import channels

MOST_WAITING_BYTES = 4 * 2**20
"""Read ahead of whoever takes it. Then nothing more is read, and the pod waits."""

COMPLAINT_BYTES = 2048
"""Kept of what the runtime said on stderr."""

CLOSE_SECONDS = 1.0


class ExecChannel:
    """Its owner runs `pump`, and nobody but that reads the stream."""

    def __init__(self, stream: aiohttp.ClientWebSocketResponse, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end: Callable[[], None] | None = on_end
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._news, self._room = anyio.Event(), anyio.Event()
        self._end: str | None = None
        self.complaint = b""

    # --- as a channel ---

    async def receive(self) -> bytes:
        while not self._waiting:
            if self._end is not None:
                raise ChannelLost(self._end)
            self._news = anyio.Event()
            await self._news.wait()
        data = self._waiting.popleft()
        self._waiting_bytes -= len(data)
        self._room.set()
        return data

    async def send(self, data: bytes) -> None:
        if self._end is not None:
            raise ChannelLost(self._end)
        try:
            for message in channels.said(data):
                await self._stream.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise ChannelLost(f"its stream broke: {error}") from error

    # --- for its owner ---

    async def pump(self) -> None:
        """Read until the stream ends."""
        why = "it was closed"
        try:
            why = await self._read()
        except (RemoteProtocolError, aiohttp.ClientError, OSError) as error:
            why = f"its stream broke: {error}"
        finally:
            await self.close(why)

    async def _read(self) -> str:
        """Returns how it ended."""
        ended = ""
        async for message in self._stream:
            if message.type is not aiohttp.WSMsgType.BINARY:
                return f"an exec message of type {message.type.name}"
            heard = channels.heard(message.data)
            if isinstance(heard, channels.Output):
                await self._take(heard.data)
            elif isinstance(heard, channels.Complaint):
                self.complaint = (self.complaint + heard.data)[-COMPLAINT_BYTES:]
            elif isinstance(heard, channels.Ended):
                ended = heard.text
        return ended or f"its stream ended (close {self._stream.close_code})"

    async def _take(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._news.set()
        while self._waiting_bytes > MOST_WAITING_BYTES and self._end is None:
            self._room = anyio.Event()
            await self._room.wait()

    async def close(self, why: str) -> None:
        """Whoever waits for it gets `ChannelLost`."""
        self._finish(why)
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_SECONDS):
            await self._stream.close()
        # Not before: it may be abandoned meanwhile, and another in its place, whose end this is not.
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def abandon(self) -> None:
        """From here on its end is no news."""
        self._on_end = None

    def _finish(self, why: str) -> None:
        self._end = self._end or why
        self._news.set()
        self._room.set()
