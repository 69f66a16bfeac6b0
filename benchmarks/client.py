"""A small HTTP/1.1 client: keep-alive connections and nothing else, for a general one costs as much as the service.

What it costs itself shows in the row of `/health`, which is the service's cheapest answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

CONNECT_SECONDS = 10.0


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes


class Client:
    """Any number of exchanges at once; a connection that is free again is the next to be used."""

    def __init__(self, port: int, *, key: str = "") -> None:
        self._port = port
        self._host = "Host: 127.0.0.1\r\n" + (f"X-API-Key: {key}\r\n" if key else "")
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

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
        for _, writer in self._free:
            writer.close()
        self._free.clear()

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection("127.0.0.1", self._port)

    async def _exchange(self, request: bytes) -> Answer:
        reader, writer = self._free.pop() if self._free else await self._opened()
        try:
            writer.write(request)
            answer = await _read(reader)
        except BaseException:
            writer.close()
            raise
        self._free.append((reader, writer))
        return answer


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
