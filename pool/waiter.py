"""One caller of `SandboxPool.lease`: waits, holds, leaves."""

from __future__ import annotations

import enum

import anyio

from pool.lease import Lease
from pool.waiting import WaiterId


class Answer(enum.Enum):
    NONE_YET = enum.auto()
    GRANTED = enum.auto()
    DISMISSED = enum.auto()


class Waiter:
    def __init__(self, waiter_id: WaiterId, *, now: float) -> None:
        self.id = waiter_id
        self.wanted_at = now
        self.answered_at = now
        self.answer = Answer.NONE_YET
        self.lease: Lease | None = None
        self.was_warm = False
        """Answered at once: a sandbox was READY."""
        self._answered = anyio.Event()

    def grant(self, lease: Lease, *, now: float) -> None:
        self.lease = lease
        self._tell(Answer.GRANTED, now)

    def dismiss(self, *, now: float) -> None:
        self._tell(Answer.DISMISSED, now)

    def _tell(self, answer: Answer, now: float) -> None:
        self.answer, self.answered_at = answer, now
        self._answered.set()

    async def wait(self, deadline: float) -> None:
        """Until answered, or the deadline. Does not suspend when the answer is there already."""
        if self.answer is Answer.NONE_YET:
            with anyio.CancelScope(deadline=deadline):
                await self._answered.wait()
