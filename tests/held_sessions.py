"""Real sandboxes held as sessions, called synchronously: commands and programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio

from pool import Program, Session, StagedFile
from tests.sandboxes import QUEUE_SECONDS, Gathering, Result, Sandboxes, staged

CALL_SECONDS = 20.0
"""Beside the call's own time."""


class HeldSession:
    """One, from a thread beside its event loop."""

    def __init__(self, session: Session, boxes: Sandboxes) -> None:
        self.session, self._boxes = session, boxes

    def bash(self, command: str, *, timeout_ms: int = 10_000) -> Result:
        return self._boxes.portal.call(self._bash, command, timeout_ms)

    def run(
        self,
        code: str,
        *,
        stdin: str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        echo: bool = False,
        timeout_ms: int = 10_000,
    ) -> Result:
        program = Program(
            code=code,
            stdin=stdin,
            args=tuple(args),
            env=dict(env or {}),
            last_line_interactive=echo,
            timeout_ms=timeout_ms,
        )
        return self._boxes.portal.call(self._run, program, staged(files or {}))

    async def _bash(self, command: str, timeout_ms: int) -> Result:
        sink, deadline = Gathering(), _deadline(timeout_ms)
        return sink.result(await self.session.shell(command, timeout_ms=timeout_ms, sink=sink, deadline=deadline))

    async def _run(self, program: Program, files: list[StagedFile]) -> Result:
        sink, deadline = Gathering(), _deadline(program.timeout_ms)
        async with self.session.turn(deadline) as turn:
            return sink.result(await turn.run(program, files, sink, deadline))


def _deadline(timeout_ms: int) -> float:
    return anyio.current_time() + timeout_ms / 1000 + CALL_SECONDS


@contextmanager
def held_session(boxes: Sandboxes, *, ttl_seconds: float = 600.0) -> Iterator[HeldSession]:
    with boxes.portal.wrap_async_context_manager(_opened(boxes, ttl_seconds)) as session:
        yield HeldSession(session, boxes)


@asynccontextmanager
async def _opened(boxes: Sandboxes, ttl_seconds: float) -> AsyncIterator[Session]:
    async with boxes.pool.lease(deadline=anyio.current_time() + QUEUE_SECONDS) as lease:
        deadline = anyio.current_time() + CALL_SECONDS
        yield await lease.open_session(ttl_seconds=ttl_seconds, files=(), deadline=deadline, loopback=False)
