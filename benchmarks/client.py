"""A small HTTP/1.1 client: keep-alive connections and nothing else, for a general one costs as much as the service.

What it costs itself shows in the row of `/health`, which is the service's cheapest answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 20.0
"""A connection that was free for longer is not used again: services close those on which nothing comes."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes


class Client:
    """Any number of exchanges at once; a connection that is free again is the next to be used."""

    def __init__(self, port: int, *, key: str = "") -> None:
        self._port = port
        self._host = "Host: 127.0.0.1\r\n" + (f"X-API-Key: {key}\r\n" if key else "")
        self._free: list[_Connection] = []

    async def get(self, path: str) -> Answer:
        return await self._exchange(f"GET {path} HTTP/1.1\r\n{self._host}\r\n".encode())

    async def post(self, path: str, body: bytes) -> Answer:
        head = f"POST {path} HTTP/1.1\r\n{self._host}Content-Type: application/json\r\n"
        return await self._exchange(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def execute(self, body: bytes) -> Answer:
        return await self.post("/v1/execute", body)

    def with_key(self, key: str) -> Client:
        """Another one, of the same service."""
        return Client(self._port, key=key)

    async def connect(self, count: int) -> None:
        """Have so many connections open: who measures answers does not measure connecting."""
        while len(self._free) < count:
            self._free.append(await self._opened())

    async def close(self) -> None:
        for connection in self._free:
            connection.writer.close()
        self._free.clear()

    async def _opened(self) -> _Connection:
        async with asyncio.timeout(CONNECT_SECONDS):
            return _Connection(*await asyncio.open_connection("127.0.0.1", self._port))

    async def _taken(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if time.monotonic() - connection.free_since < IDLE_SECONDS:
                return connection
            connection.writer.close()
        return await self._opened()

    async def _exchange(self, request: bytes) -> Answer:
        connection = await self._taken()
        try:
            connection.writer.write(request)
            answer = await _read(connection.reader)
        except BaseException:
            connection.writer.close()
            raise
        connection.free_since = time.monotonic()
        self._free.append(connection)
        return answer


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.free_since = time.monotonic()


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    lengths = [int(field.partition(b":")[2]) for field in fields if field.lower().startswith(b"content-length:")]
    return Answer(int(status.split(b" ", 2)[1]), await reader.readexactly(lengths[0]))


@asynccontextmanager
async def client_of(port: int, *, connections: int = 4) -> AsyncIterator[Client]:
    client = Client(port)
    await client.connect(connections)
    try:
        yield client
    finally:
        await client.close()
