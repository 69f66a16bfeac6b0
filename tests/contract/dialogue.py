"""A real sandbox, spoken to over the wire frame by frame, as a broker would: the supervisor's side of the protocol."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from pool import RunLimits
from pool.local import LocalBackend
from pool.local.sandbox import LocalSandbox, SocketChannel
from sandbox_runtime import wire
from tests.hostile.aftermath import processes
from tests.local_backends import RUN, Frame, children, local_backend, nursery, templates

PATIENCE_SECONDS = 30.0


class Dialogue:
    """A new sandbox and the broker's end of its channel."""

    def __init__(self, sandbox: LocalSandbox, channel: socket.socket, lost: threading.Event) -> None:
        self.sandbox = sandbox
        self.lost = lost
        """Set when the sandbox has ended by itself."""
        self.writer = wire.Writer()
        self._socket = channel
        self._reader = wire.Reader(wire.FROM_SANDBOX)
        self._heard: list[Frame] = []

    # --- saying

    def say(self, *messages: wire.Message, run: str = RUN) -> None:
        self.say_raw(b"".join(self.writer.line(each, run) for each in messages))

    def say_raw(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            _, ready, _ = select.select([], [self._socket], [], PATIENCE_SECONDS)
            assert ready, "it takes nothing in"
            try:
                left = left[self._socket.send(left) :]
            except ConnectionError:  # it has heard enough, and is gone
                return

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)

    def end_saying(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    # --- hearing

    def hear(self) -> Frame | None:
        """The next frame; None when the channel has ended."""
        while not self._heard:
            ready, _, _ = select.select([self._socket], [], [], PATIENCE_SECONDS)
            assert ready, "it fell silent"
            data = self._received()
            if not data:
                return None
            self._heard += self._reader.feed(data)
        return self._heard.pop(0)

    def _received(self) -> bytes:
        try:
            return self._socket.recv(1 << 20)
        except ConnectionResetError:  # it ended before it had read everything
            return b""

    def hello(self) -> wire.Hello:
        heard = self.hear()
        assert heard is not None
        assert isinstance(heard[1], wire.Hello)
        return heard[1]

    def answer(self) -> list[wire.Message]:
        """All frames of the run, up to the last one."""
        messages: list[wire.Message] = []
        while not messages or not isinstance(messages[-1], wire.Outcome | wire.Refused):
            heard = self.hear()
            assert heard is not None, messages
            assert heard[0] == RUN
            messages.append(heard[1])
        return messages

    def rest(self) -> list[wire.Message]:
        """All that is said until the channel ends."""
        messages = []
        while (heard := self.hear()) is not None:
            messages.append(heard[1])
        return messages

    def pong(self, nonce: int) -> bool:
        """Whether a ping is answered, and next."""
        self.say(wire.Ping(nonce=nonce), run="")
        return self.hear() == ("", wire.Pong(nonce=nonce))


class Speaking:
    """Makes sandboxes to speak to, one after the other."""

    def __init__(self, backend: LocalBackend, portal: BlockingPortal) -> None:
        self.backend = backend
        self._portal = portal
        self._count = 0

    @contextmanager
    def greeted(self) -> Iterator[Dialogue]:
        """A sandbox that has said its hello."""
        with self.new() as dialogue:
            dialogue.hello()
            yield dialogue

    @contextmanager
    def new(self) -> Iterator[Dialogue]:
        lost = threading.Event()
        self._count += 1
        sandbox = self._portal.call(self._made, f"sandbox-{self._count}", lost)
        assert isinstance(sandbox.channel, SocketChannel)
        with socket.socket(fileno=os.dup(sandbox.channel._socket.fileno())) as channel:
            try:
                yield Dialogue(sandbox, channel, lost)
            finally:
                self._portal.call(sandbox.destroy)

    async def _made(self, name: str, lost: threading.Event) -> LocalSandbox:
        sandbox = await self.backend.create(name, on_lost=lost.set)
        assert isinstance(sandbox, LocalSandbox)
        return sandbox


@contextmanager
def speaking(limits: RunLimits) -> Iterator[Speaking]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(local_backend(limits=limits, seconds=600.0)) as backend,
    ):
        yield Speaking(backend, portal)


# --- frames


def stage(target: str, data: bytes, *, path: str = "", last: bool = True) -> wire.Stage:
    return wire.Stage(target=target, path=path, data=data, last=last)


def pieces(target: str, data: bytes, size: int, *, path: str = "") -> list[wire.Stage]:
    """The data in pieces of a size."""
    starts = range(0, max(1, len(data)), size)
    return [stage(target, data[at : at + size], path=path, last=at + size >= len(data)) for at in starts]


def outcome_of(messages: list[wire.Message]) -> wire.Outcome:
    ended = messages[-1]
    assert isinstance(ended, wire.Outcome)
    return ended


def files_of(messages: list[wire.Message]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for each in messages:
        if isinstance(each, wire.File):
            files[each.path] = files.get(each.path, b"") + each.data
    return files


# --- the processes of the only sandbox there is


def zygote() -> int:
    (only,) = children(templates()[-1])
    return only


def supervisor() -> int:
    (only,) = set(children(nursery())) - set(templates())
    return only


def guests() -> list[int]:
    return children(zygote())


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def is_gone(pid: int) -> bool:
    return pid not in processes()


def soon(holds: Any) -> bool:
    """Whether it comes to hold: for what nobody is told of."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.002)
    return True
