"""Runs that go on while a test does something to what is around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from pool import Outcome, Program, SandboxPool, StagedFile, Stream
from tests.fakes.sinks import KeepingSink
from tests.kube.support.pods import BESIDE_RUN_SECONDS, QUEUE_SECONDS

BEGIN_SECONDS = 30.0


class ListeningSink(KeepingSink):
    """Tells when its program has printed something."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = anyio.Event()

    async def output(self, stream: Stream, data: bytes) -> None:
        await super().output(stream, data)
        self.begun.set()


class Background:
    """One run, and what became of it."""

    def __init__(self, code: str, *, timeout_seconds: float, files: Sequence[StagedFile] = ()) -> None:
        self.program = Program(code=code, timeout_ms=int(timeout_seconds * 1000))
        self.sink = ListeningSink()
        self.sandbox = ""
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.began_at = self.ended_at = 0.0
        self.over = anyio.Event()
        self._files = files

    @property
    def stdout(self) -> str:
        return self.sink.streams["stdout"].decode()

    @property
    def deadline_seconds(self) -> float:
        """For all of it; staging and collecting too."""
        return self.program.timeout_ms / 1000 + BESIDE_RUN_SECONDS

    @property
    def program_ended_at(self) -> float:
        """As its sandbox says, on our clock."""
        assert self.outcome is not None, self.error
        return self.began_at + self.outcome.duration_ms / 1000

    async def run(self, pool: SandboxPool) -> None:
        try:
            async with pool.lease(deadline=anyio.current_time() + QUEUE_SECONDS) as lease:
                self.sandbox, self.began_at = lease.sandbox, anyio.current_time()
                deadline = self.began_at + self.deadline_seconds
                self.outcome = await lease.run(self.program, self._files, self.sink, deadline)
        except Exception as error:
            self.error = error
        finally:
            self.ended_at = anyio.current_time()
            self.over.set()


@asynccontextmanager
async def running(
    pool: SandboxPool, code: str, *, timeout_seconds: float = 20.0, files: Sequence[StagedFile] = ()
) -> AsyncIterator[Background]:
    """A program that runs and has printed something. At the end it is waited for."""
    background = Background(code, timeout_seconds=timeout_seconds, files=files)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(background.run, pool)
        with anyio.fail_after(BEGIN_SECONDS):
            await background.sink.begun.wait()
        yield background
        await background.over.wait()
