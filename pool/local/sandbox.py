"""One sandbox on this machine: a channel to its supervisor, and a handle on its first process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import anyio

from pool.errors import SandboxLost

READ_BYTES = 256 * 1024


class SocketChannel:
    """One end of a stream socket pair; the supervisor has the other."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours

    async def receive(self) -> bytes:
        try:
            data = await self._receive()
        except OSError as error:
            raise SandboxLost(f"the sandbox's channel failed: {error.strerror}") from error
        except anyio.ClosedResourceError as error:
            raise SandboxLost("the sandbox was ended") from error
        if not data:
            raise SandboxLost("the sandbox's channel has ended")
        return data

    async def send(self, data: bytes) -> None:
        try:
            await self._send(data)
        except OSError as error:
            raise SandboxLost(f"the sandbox's channel failed: {error.strerror}") from error
        except anyio.ClosedResourceError as error:
            raise SandboxLost("the sandbox was ended") from error

    # Not `loop.sock_recv`: when the socket is closed while that waits, nobody is woken, and its clean-up later
    # takes the loop's reader away from whoever has the same descriptor by then.

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._socket.recv(READ_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    def close(self) -> None:
        """Whoever waits for it gets `SandboxLost`."""
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            self._socket.close()


class LocalSandbox:
    """A sandbox; dead when its first process is, for the kernel then ends the others before it."""

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

    def let_go(self) -> None:
        """Close what we have of it: it is dead, or its whole launcher is."""
        if self._handle < 0:
            return
        asyncio.get_running_loop().remove_reader(self._handle)
        handle, self._handle = self._handle, -1
        os.close(handle)
        self.channel.close()
        self._on_gone(self)
