"""A backend whose sandboxes are objects, and which knows what has become of each."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import checkpoint

from pool.backend import Isolation, Reconnect, Target
from pool.settings import RunLimits
from pool.shared_session import SharedSession
from tests.fakes.supervisor import FakeChannel, FakeSupervisor

Start = Callable[[], FakeSupervisor]


class FakeSandbox:
    reconnect: Reconnect | None = None
    runs = 0
    was_out_of_memory = False
    proof = ""

    def __init__(
        self, name: str, supervisor: FakeSupervisor, backend: FakeBackend, on_lost: Callable[[], None]
    ) -> None:
        self.name = name
        self.supervisor = supervisor
        self.channel: FakeChannel = supervisor.channel
        self.failing_destroys = 0
        self._backend = backend
        self._on_lost = on_lost

    async def destroy(self) -> None:
        await checkpoint()
        if self.failing_destroys:
            self.failing_destroys -= 1
            raise OSError(5, "cannot be ended just now")
        self.channel.end()
        self._backend.live.pop(self.name, None)
        await checkpoint()

    async def hand_over(self, runs: int) -> bool:
        return False

    async def share(self, session: SharedSession) -> None:
        raise AssertionError("never to be shared: it has no proof")

    def die(self) -> None:
        """End by itself: noticed by the backend, and the stream ends."""
        self.channel.end()
        self._on_lost()

    def die_unheard(self) -> None:
        """End by itself, while the stream stays open with nothing behind it (kubernetes#129144)."""
        self._on_lost()


class FakeBackend:
    """Starts well-behaved supervisors, or what `next_starts` says, one entry a start."""

    name = "fake"
    sessions = None

    def __init__(self, *, start: Start = FakeSupervisor) -> None:
        self.start = start
        self.next_starts: deque[Start] = deque()
        self.live: dict[str, FakeSandbox] = {}
        self.created: list[str] = []
        self.is_running = False
        self.gate: anyio.Event | None = None
        """While set and not fired, no start gets further."""
        self.reconnect: Reconnect | None = None
        """Of the sandboxes that are made from now on."""
        self._generation = 1

    def held(self, reason: str, text: str) -> None: ...

    def unreachable(self) -> tuple[Target, ...]:
        return ()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self.is_running = True
        try:
            yield
        finally:
            self.is_running = False

    async def create(
        self, slot: str, *, on_lost: Callable[[], None], on_cut: Callable[[], None], limits: RunLimits
    ) -> FakeSandbox:
        self.created.append(slot)
        await checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        start = self.next_starts.popleft() if self.next_starts else self.start
        supervisor = start()
        await checkpoint()
        sandbox = FakeSandbox(f"fake-{slot}", supervisor, self, on_lost)
        sandbox.reconnect = self.reconnect
        self.live[sandbox.name] = sandbox
        supervisor.start()
        return sandbox

    def isolation(self) -> Isolation:
        return Isolation(level="none", missing=("everything",))

    def generation(self) -> int:
        return self._generation

    def renew(self) -> None:
        self._generation += 1


def with_one(fault: Start) -> FakeBackend:
    """The canary is well, the first warm sandbox is not, all others are."""
    backend = FakeBackend()
    backend.next_starts.extend([FakeSupervisor, fault])
    return backend
