"""One sandbox on this machine: a channel to its supervisor, and a handle on its first process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from pool.backend import Reconnect
from pool.errors import SandboxLost
from pool.shared_session import SharedSession

READ_BYTES = 256 * 1024


class _Buffer(threading.local):
    """For all channels of an event loop, which read one after the other: `recv` would allocate as much for each read
    and cut it down to a few hundred bytes, and the gaps add up (3 MiB)."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))


_buffer = _Buffer()


class SocketChannel:
    """One end of a stream socket pair; the supervisor has the other.

    Not by `loop.sock_recv`, nor by `anyio.wait_readable`: when a socket is closed under them, the one never wakes
    its waiter, and both may later take the reader away from whoever has the same descriptor by then.
    """

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._waiters: set[asyncio.Future[None]] = set()

    async def receive(self) -> bytes:
        try:
            data = await self._received()
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise SandboxLost("the sandbox's channel has ended")
        return data

    async def send(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[await self._sent(left) :]
        except OSError as error:
            raise self._lost(error) from error

    async def _received(self) -> bytes:
        while True:
            try:
                return bytes(_buffer.view[: self._socket.recv_into(_buffer.view)])
            except BlockingIOError:
                await self._wait(self._loop.add_reader, self._loop.remove_reader)

    async def _sent(self, data: memoryview) -> int:
        while True:
            try:
                return self._socket.send(data)
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer)

    async def _wait(self, add: Callable[..., object], remove: Callable[[socket.socket], object]) -> None:
        ready = self._loop.create_future()
        self._waiters.add(ready)
        add(self._socket, _wake, ready)
        try:
            await ready
        finally:
            self._waiters.discard(ready)
            if not self._is_closed():
                remove(self._socket)

    def _is_closed(self) -> bool:
        return self._socket.fileno() < 0

    def _lost(self, error: OSError) -> SandboxLost:
        if self._is_closed():
            return SandboxLost("the sandbox was ended")
        return SandboxLost(f"the sandbox's channel failed: {error.strerror}")

    def close(self) -> None:
        """Whoever waits for it gets `SandboxLost`."""
        if self._is_closed():
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for waiter in self._waiters:
            _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class LocalSandbox:
    """A sandbox; dead when its first process is, for the kernel then ends the others before it."""

    reconnect: Reconnect | None = None
    runs = 0
    was_out_of_memory = False
    proof = ""

    def __init__(
        self,
        name: str,
        channel: SocketChannel,
        handle: int,
        on_lost: Callable[[], None],
        on_gone: Callable[[LocalSandbox], None],
    ) -> None:
        self.name = name
        self.channel = channel
        self._handle = handle
        self._on_lost: Callable[[], None] | None = on_lost
        self._on_gone = on_gone
        self._dead = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, self._died)

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        self._dead.set()
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost()

    async def destroy(self) -> None:
        """Kill it, and return when the kernel has ended all its processes and its mounts are gone.

        Cancelled while it waits for that, it can be called again: the sandbox dies all the same.
        """
        if self._handle < 0:
            return
        self._on_lost = None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        await self._dead.wait()
        self.let_go()

    async def hand_over(self, runs: int) -> bool:
        return False

    async def share(self, session: SharedSession) -> None:
        raise AssertionError("a sandbox of one machine is seen by one service")

    def let_go(self) -> None:
        """Close what we have of it: it is dead, or its whole launcher is."""
        if self._handle < 0:
            return
        asyncio.get_running_loop().remove_reader(self._handle)
        handle, self._handle = self._handle, -1
        os.close(handle)
        self.channel.close()
        self._on_gone(self)
