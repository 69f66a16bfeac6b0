"""The launcher's first process, and the pipe that it hangs on: when our end closes, everything below it ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import anyio

KILLED_SECONDS = 2.0
"""For a killed process to be gone, which only a kernel in trouble keeps from it."""

SPARE_THE_GROUPS = b"s"
"""Said by a service that lives on: its cgroups are its own to remove."""


class KeeperProcess:
    """The keeper, as a child of the service."""

    def __init__(self, command: Callable[[int], list[str]], own: Sequence[int], on_end: Callable[[], None]) -> None:
        """`command` is made for the number of the lifeline; `own` are descriptors that the keeper gets too."""
        self._ended = anyio.Event()
        self._on_end = on_end
        with ExitStack() as undo:
            reading, self._lifeline = os.pipe()
            undo.callback(os.close, self._lifeline)
            try:
                self._process = _started(command(reading), [reading, *own])
            finally:
                os.close(reading)
            self._handle = os.pidfd_open(self._process.pid)
            undo.pop_all()
        asyncio.get_running_loop().add_reader(self._handle, self._hear_of_its_end)

    async def end(self, *, seconds: float, service_goes_on: bool) -> None:
        """End it and everything below it, by force when it takes too long; returns when it is gone. Once only."""
        if service_goes_on:
            with suppress(OSError):  # it has ended already
                os.write(self._lifeline, SPARE_THE_GROUPS)
        os.close(self._lifeline)
        with anyio.move_on_after(seconds, shield=True):
            await self._ended.wait()
        if not self._ended.is_set():
            self._process.kill()
            with anyio.move_on_after(KILLED_SECONDS, shield=True):
                await self._ended.wait()
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._process.poll()

    def _hear_of_its_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        self._ended.set()
        self._on_end()


def _started(command: list[str], own: list[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # our own interpreter and files
        command, stdin=subprocess.DEVNULL, pass_fds=own, env={}, start_new_session=True
    )
