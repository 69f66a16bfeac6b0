"""A backend that one pool runs, for another pool beside it: its sandboxes have limits and names of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from pool.backend import Backend, Isolation, Sandbox, Target
from pool.settings import RunLimits
from pool.shared_session import SharedSessions


class SharedBackend:
    """Run by its owner, which has to be open for longer."""

    def __init__(self, owned: Backend, prefix: str) -> None:
        """`prefix` keeps the names of slots apart."""
        self.name = owned.name
        self._owned, self._prefix = owned, prefix

    def run(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def create(
        self, slot: str, *, on_lost: Callable[[], None], on_cut: Callable[[], None], limits: RunLimits
    ) -> Sandbox:
        return await self._owned.create(f"{self._prefix}{slot}", on_lost=on_lost, on_cut=on_cut, limits=limits)

    def unreachable(self) -> tuple[Target, ...]:
        return self._owned.unreachable()

    def held(self, reason: str, text: str) -> None:
        self._owned.held(reason, text)

    def isolation(self) -> Isolation:
        return self._owned.isolation()

    @property
    def sessions(self) -> SharedSessions | None:
        return self._owned.sessions

    def generation(self) -> int:
        return self._owned.generation()
