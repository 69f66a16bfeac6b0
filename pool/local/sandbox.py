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
            data = await asyncio.get_running_loop().sock_recv(self._socket, READ_BYTES)
        except OSError as error:
            raise SandboxLost(f"the sandbox's channel failed: {error.strerror}") from error
        if not data:
            raise SandboxLost("the sandbox's channel has ended")
        return data

    async def send(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError as error:
            raise SandboxLost(f"the sandbox's channel failed: {error.strerror}") from error

    def close(self) -> None:
        self._socket.close()


class LocalSandbox:
    """A sandbox; dead when its first process is, for the kernel then ends the others before it."""

    def __init__(
        self, name: str, channel: SocketChannel, handle: int, on_lost: Callable[[], None], on_gone: Callable[[], None]
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
        """Kill it, and return when the kernel has ended all its processes and its mounts are gone."""
        if self._handle < 0:
            return
        self._on_lost = None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await self._dead.wait()
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)
            self.channel.close()
            self._on_gone()
