"""A channel to a session: its other end answers each message as the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from pool.errors import ChannelLost
from sandbox_runtime import wire
from tests.fakes.supervisor import outcome

Said = Iterable[wire.Message]


class Scripted:
    """A channel whose other end answers each message as the test says; None ends it."""

    def __init__(self, answer: Callable[[wire.Message], Said | None]) -> None:
        self.heard: list[wire.Message] = []
        self._answer = answer
        self._reader, self._writer = wire.Reader(wire.FROM_BROKER), wire.Writer()
        self._said: list[bytes] = []
        self._news = anyio.Event()
        self._has_ended = False

    async def send(self, data: bytes) -> None:
        for run, message in self._reader.feed(data):
            self.heard.append(message)
            said = self._answer(message)
            self._has_ended |= said is None
            self._said += [self._writer.line(each, run) for each in said or ()]
        self._news.set()

    async def receive(self) -> bytes:
        while not self._said and not self._has_ended:
            self._news = anyio.Event()
            await self._news.wait()
        if not self._said:
            raise ChannelLost("the stream has ended")
        return self._said.pop(0)

    def kinds(self) -> list[str]:
        return [message.kind for message in self.heard]


def well(message: wire.Message) -> Said:
    match message:
        case wire.Prove():
            return [wire.Opened(left_ms=1)]
        case wire.Ping():
            return [wire.Pong(nonce=message.nonce)]
        case wire.Shell():
            return [wire.Output(stream="stdout", data=b"out"), outcome()]
        case wire.Cancel():
            return [outcome(exit_code=None, reason="cancelled", duration_ms=5)]
    return []
