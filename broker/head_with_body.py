"""A transport that sends the head of an answer together with what follows it at once.

uvicorn writes them one by one (`RequestResponseCycle.send`). On a busy machine the client, woken by the head, and all
who were waiting for a moment like that run before the body goes out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from broker.unread import UnreadWatch

_STATUS_LINE = b"HTTP/1.1 "


class HeadWithBody(asyncio.Transport):
    """What comes in the same turn of the loop is joined; a head that nothing follows goes out in the next one."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""
        self.unread = UnreadWatch(transport, loop)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._head and bytes(data[: len(_STATUS_LINE)]) == _STATUS_LINE:
            self._head = bytes(data)
            self._loop.call_soon(self._flush)
            return
        head, self._head = self._head, b""
        self._transport.write(head + data if head else data)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)

    def close(self) -> None:
        if self._transport.is_closing():
            return
        self._flush()
        self._transport.close()
        # It stays open until all is sent, however little that is.
        self.unread.begin()

    def abort(self) -> None:
        self._head = b""
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return len(self._head) + self._transport.get_write_buffer_size()

    # --- as it is

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)
