"""Strike a coroutine at its k-th suspension, for every k: each place where it can be interrupted, once."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


class Suspensions:
    """Counts how often a coroutine has suspended, and strikes when it does so for the k-th time."""

    def __init__(self, strike_at: int) -> None:
        self.seen = 0
        self.strike: Callable[[], None] = cancel_this_task
        self._strike_at = strike_at

    @property
    def has_struck(self) -> bool:
        return self.seen >= self._strike_at

    @types.coroutine
    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        resume, value = coroutine.send, None
        while True:
            try:
                awaited = resume(value)
            except StopIteration as end:
                return end.value
            self._suspended()
            try:
                resume, value = coroutine.send, (yield awaited)
            except BaseException as error:  # a cancellation, or a future that failed
                resume, value = coroutine.throw, error

    def _suspended(self) -> None:
        self.seen += 1
        if self.seen == self._strike_at:
            self.strike()
