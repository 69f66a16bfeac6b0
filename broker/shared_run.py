"""One run, and all who wait for it: those who came while it ran, and those who came after its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import anyio

from broker import errors
from broker.claims import Record
from broker.output_log import OutputLog
from broker.schemas import Result
from pool import Stream


class SharedRun:
    """Written by the task that carries it out, read by its callers. None of them makes it wait."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.output = OutputLog()
        self.result: Result | None = None
        self.failure: errors.Answer | None = None
        """What the callers are told in place of a result."""
        self.has_begun = False
        """The program may have run, if only in part."""
        self.is_abandoned = False
        """Its last caller has left before its end."""
        self.scope = anyio.CancelScope()
        """Of the task that carries it out."""
        self._callers = 0
        self._is_over = False
        self._news = anyio.Event()

    # --- for its task ---

    def begin(self) -> None:
        self.has_begun = True
        self._tell()

    def add(self, stream: Stream, data: bytes) -> None:
        self.output.add(stream, data)
        self._tell()

    def fail(self, error: Exception) -> None:
        self.failure = errors.answer(error)

    def fail_unless_ended(self) -> None:
        """It was cancelled, from wherever."""
        if self.result is None and self.failure is None:
            self.fail(errors.ExecutionCancelled("The run was cancelled: nobody waited for it, or the service ended."))

    def recall(self, record: Record) -> None:
        """It has run before, and this is how it was."""
        self.execution_id, self.output = record.execution_id, record.output
        self.result, self.failure, self.has_begun = record.result, record.failure, True

    def record(self) -> Record:
        return Record(execution_id=self.execution_id, output=self.output, result=self.result, failure=self.failure)

    def finish(self) -> None:
        self._is_over = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    # --- for its callers ---

    @contextmanager
    def wanted(self) -> Iterator[Self]:
        """As long as somebody is in here it goes on. The last one who leaves before its end cancels it."""
        self._callers += 1
        try:
            yield self
        finally:
            self._callers -= 1
            if not self._callers and not self._is_over:
                self.is_abandoned = True
                self.scope.cancel()

    @property
    def is_over(self) -> bool:
        return self._is_over

    async def changed(self) -> None:
        """Until there is more output, or an end."""
        await self._news.wait()

    async def begun(self) -> None:
        """Until it has a sandbox, or an end."""
        while not (self.has_begun or self._is_over):
            await self.changed()

    async def over(self) -> None:
        while not self._is_over:
            await self.changed()

    def ended(self) -> Result:
        """Raises `SharedFailure` where there is no result. Only when it is over."""
        if self.result is None:
            raise errors.SharedFailure(self.failure_answer())
        return self.result

    def failure_answer(self) -> errors.Answer:
        """Only when it is over without a result."""
        assert self.failure is not None  # noqa: S101  # `fail_unless_ended` sees to it
        return self.failure
