"""Orders to one process of the launcher, over a socket that keeps messages apart.

It does one thing after the other, so its answers come in the order of what was asked. An answer that
nobody waits for any more is dropped, with the descriptors in it: whoever asks may be cancelled anywhere.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import anyio

from pool.errors import SandboxStartFailed
from sandbox_runtime import descriptors


class Answer:
    """What is waited for. Its descriptors are the waiter's once they are taken; until then they are closed with it."""

    def __init__(self) -> None:
        self._arrived = anyio.Event()
        self._is_wanted = True
        self._failure = ""
        self._words: dict[str, object] = {}
        self._descriptors: list[int] = []

    def arrive(self, words: dict[str, object], received: list[int]) -> None:
        self._words, self._descriptors = words, received
        self._arrived.set()
        if not self._is_wanted:
            self.close()

    def fail(self, why: str) -> None:
        """There will be no answer."""
        self._failure = why
        self._arrived.set()

    @property
    def has_arrived(self) -> bool:
        return self._arrived.is_set()

    async def wait(self) -> None:
        await self._arrived.wait()

    def take(self, expected_descriptors: int) -> tuple[dict[str, object], list[int]]:
        """The words and the descriptors. Raises `SandboxStartFailed` when it is a failure."""
        if self._failure:
            raise SandboxStartFailed(self._failure, reason="launcher")
        if "failed" in self._words:
            if self._words.get("what") == "preload":
                raise SandboxStartFailed(str(self._words["failed"]), reason="preload")
            raise SandboxStartFailed(f"the launcher failed: {self._words['failed']}", reason="launcher")
        if len(self._descriptors) != expected_descriptors:
            numbers = f"{len(self._descriptors)} descriptors, not {expected_descriptors}"
            raise SandboxStartFailed(f"the launcher sent {numbers}", reason="launcher")
        taken, self._descriptors = self._descriptors, []
        return self._words, taken

    def close(self) -> None:
        self._is_wanted = False
        while self._descriptors:
            os.close(self._descriptors.pop())


class Control:
    """One end of the socket. It ends by itself when the other does, or gives no answer in time."""

    def __init__(self, peer: socket.socket, name: str, on_lost: Callable[[str], None]) -> None:
        """`on_lost` hears why the other end cannot be used any more, unless that is our own doing."""
        peer.setblocking(False)
        self._peer, self._name, self._on_lost = peer, name, on_lost
        self._unanswered: deque[Answer] = deque()
        self._is_finished = False
        asyncio.get_running_loop().add_reader(peer, self._hear)

    @property
    def is_closed(self) -> bool:
        return self._peer.fileno() < 0

    async def order(
        self, words: Mapping[str, object], own: Sequence[int] = (), *, seconds: float, expected_descriptors: int = 0
    ) -> list[int]:
        """Send an order and wait for its answer; returns the descriptors that came with it."""
        with closing(Answer()) as answer:
            self._send(words, own)
            self._unanswered.append(answer)
            return (await self._wait(answer, seconds, expected_descriptors))[1]

    async def announcement(self, *, seconds: float) -> dict[str, object]:
        """What the other end says unasked."""
        with closing(Answer()) as answer:
            self._unanswered.append(answer)
            return (await self._wait(answer, seconds, 0))[0]

    def finish(self) -> None:
        """No more orders. Those under way are still answered; the other end learns that no others will come."""
        self._is_finished = True
        if not self.is_closed:
            self._peer.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._is_finished = True
        self._end("was closed")

    def _send(self, words: Mapping[str, object], own: Sequence[int]) -> None:
        try:
            descriptors.send(self._peer, dict(words), own)
        except OSError as error:
            raise SandboxStartFailed(f"{self._name} takes no orders: {error.strerror}", reason="launcher") from error

    async def _wait(
        self, answer: Answer, seconds: float, expected_descriptors: int
    ) -> tuple[dict[str, object], list[int]]:
        with anyio.move_on_after(seconds):
            await answer.wait()
        if not answer.has_arrived:
            # It hangs, or is so slow that it might as well: nothing that it says from here on could be told apart.
            self._end(f"gave no answer within {seconds:g} s")
        return answer.take(expected_descriptors)

    def _hear(self) -> None:
        try:
            words, received = descriptors.receive(self._peer)
        except BlockingIOError:
            return
        except descriptors.Truncated as error:
            words, received = {"failed": str(error)}, []
        except (OSError, ValueError) as error:
            self._end("has ended" if isinstance(error, descriptors.PeerGone) else f"failed: {error}")
            return
        answer = self._unanswered.popleft() if self._unanswered else _unasked()
        answer.arrive(words, received)

    def _end(self, why: str) -> None:
        if self.is_closed:
            return
        asyncio.get_running_loop().remove_reader(self._peer)
        self._peer.close()
        while self._unanswered:
            self._unanswered.popleft().fail(f"{self._name} {why}")
        if not self._is_finished:
            self._on_lost(f"{self._name} {why}")


def _unasked() -> Answer:
    answer = Answer()
    answer.close()
    return answer
