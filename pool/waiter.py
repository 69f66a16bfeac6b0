"""One caller of `SandboxPool.lease`: waits, holds, leaves."""

from __future__ import annotations

import enum
import time

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
        """On the event loop's clock."""
        self.answer = Answer.NONE_YET
        self.lease: Lease | None = None
        self.was_warm = False
        """Answered at once: a sandbox was READY."""
        self._answered = anyio.Event()
        # Measured on a finer clock than the deadlines': uvloop's counts whole milliseconds.
        self._made_at = self._answered_at = time.perf_counter()

    @property
    def queue_seconds(self) -> float:
        return self._answered_at - self._made_at

    @property
    def seconds_since_answer(self) -> float:
        return time.perf_counter() - self._answered_at

    def grant(self, lease: Lease) -> None:
        self.lease = lease
        self._tell(Answer.GRANTED)

    def dismiss(self) -> None:
        self._tell(Answer.DISMISSED)

    def _tell(self, answer: Answer) -> None:
        self.answer, self._answered_at = answer, time.perf_counter()
        self._answered.set()

    async def wait(self, deadline: float) -> None:
        """Until answered, or the deadline. Does not suspend when the answer is there already."""
        if self.answer is Answer.NONE_YET:
            with anyio.CancelScope(deadline=deadline):
                await self._answered.wait()
