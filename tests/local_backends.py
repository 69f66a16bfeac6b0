"""The local backend by itself, without a pool: its sandboxes one by one, and the processes that it is made of."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import msgspec

from pool.backend import Channel, Sandbox
from pool.errors import SandboxLost
from pool.local import LocalBackend
from sandbox_runtime import wire
from tests.hostile.aftermath import descendants
from tests.sandboxes import groups, plan

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.002
RUN = "7f"

Frame = tuple[str, wire.Message]


async def eventually(holds: Callable[[], object], *, within_seconds: float = PATIENCE_SECONDS) -> None:
    """Let everybody go on until it holds. For what nobody is told of."""
    with anyio.fail_after(within_seconds):
        while not holds():  # noqa: ASYNC110  # the kernel sets no events
            await anyio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def local_backend(
    *, seconds: float = 4 * PATIENCE_SECONDS, changed: Mapping[str, Any] | None = None, **planned: Any
) -> AsyncIterator[LocalBackend]:
    """A running backend, planned as by `tests.sandboxes.plan` but for what is changed; it ends after so long."""
    made = msgspec.structs.replace(plan(**planned), **(changed or {}))
    with anyio.fail_after(seconds):
        async with _running(LocalBackend(made, groups())) as backend:
            yield backend


@asynccontextmanager
async def _running(backend: LocalBackend) -> AsyncIterator[LocalBackend]:
    async with backend.run():
        yield backend


@asynccontextmanager
async def sandbox_of(backend: LocalBackend, name: str = "one") -> AsyncIterator[Sandbox]:
    sandbox = await backend.create(name, on_lost=lambda: None)
    try:
        yield sandbox
    finally:
        await sandbox.destroy()


class Dialogue:
    """One side of a channel, frame by frame. `at` is what the other side has said last."""

    def __init__(self, channel: Channel) -> None:
        self.writer = wire.Writer()
        self._channel = channel
        self._reader = wire.Reader(wire.FROM_SANDBOX)
        self._heard: list[Frame] = []

    async def say(self, *messages: wire.Message, run: str = RUN) -> None:
        await self._channel.send(b"".join(self.writer.line(each, run) for each in messages))

    async def say_raw(self, data: bytes) -> None:
        await self._channel.send(data)

    async def hear(self) -> Frame:
        while not self._heard:
            with anyio.fail_after(PATIENCE_SECONDS):
                self._heard += self._reader.feed(await self._channel.receive())
        return self._heard.pop(0)

    async def hello(self) -> wire.Hello:
        run, message = await self.hear()
        assert run == ""
        assert isinstance(message, wire.Hello)
        return message

    async def rest(self) -> list[Frame]:
        """All that is said until the channel ends."""
        frames = []
        try:
            while True:
                frames.append(await self.hear())
        except SandboxLost:
            return frames

    async def output_of(self, source: str) -> str:
        """Run one program, and return what it printed."""
        await self.say(code(source), start())
        return printed(await self.answer()).decode()

    async def answer(self) -> list[wire.Message]:
        """All frames of the run, the last one included."""
        messages: list[wire.Message] = []
        while not messages or not isinstance(messages[-1], wire.Outcome | wire.Refused):
            run, message = await self.hear()
            assert run == RUN
            messages.append(message)
        return messages


def code(source: str) -> wire.Stage:
    return wire.Stage(target="code", path="", data=source.encode(), last=True)


def start(*, timeout_ms: int = 10_000, collect_ms: int = 5_000, **changed: Any) -> wire.Run:
    fields: dict[str, Any] = {"args": [], "env": {}, "last_line_interactive": False}
    return wire.Run(**{**fields, "timeout_ms": timeout_ms, "collect_ms": collect_ms, **changed})


def printed(messages: list[wire.Message], stream: str = "stdout") -> bytes:
    return b"".join(each.data for each in messages if isinstance(each, wire.Output) and each.stream == stream)


async def output_of(sandbox: Sandbox, source: str) -> str:
    """Run one program in a new sandbox, and return what it printed."""
    dialogue = Dialogue(sandbox.channel)
    await dialogue.hello()
    return await dialogue.output_of(source)


# --- the launcher's processes ---


def keepers() -> list[int]:
    """Of this process."""
    return [each.pid for each in descendants(os.getpid()) if each.parent == os.getpid() and _role(each.pid) == "keeper"]


def keeper() -> int:
    (only,) = keepers()
    return only


def nursery() -> int:
    (only,) = children(keeper())
    return only


def templates() -> list[int]:
    """Oldest first."""
    return sorted(pid for pid in children(nursery()) if _role(pid) == "science")


def children(parent: int) -> list[int]:
    return [each.pid for each in descendants(parent) if each.parent == parent]


def _role(pid: int) -> str:
    """The word after our title, or after the launcher's entry; forks have the one of whom they were forked from."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    entries = (b"code-interpreter", b"/start.py")
    return next((word.decode() for entry, word in pairwise(words) if entry.endswith(entries)), "")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)
