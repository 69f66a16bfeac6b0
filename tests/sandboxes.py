"""Real sandboxes for tests: a pool over the local backend, in a thread of its own, called synchronously."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import anyio
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from pool import Outcome, PoolSettings, Program, RunLimits, SandboxPool, StagedFile
from pool.local import Groups, LocalBackend, LocalPlan, find_environment, level, probe
from pool.local import cgroups as local_cgroups

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = os.path.join(CHECKOUT, ".programs")
SCIENCE = ("numpy", "pandas", "matplotlib")
QUEUE_SECONDS = 30.0


class Result(msgspec.Struct, kw_only=True):
    """What one run produced."""

    stdout_bytes: bytes
    stderr_bytes: bytes
    files: dict[str, bytes]
    outcome: Outcome

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def exit_code(self) -> int | None:
        return self.outcome.exit_code


class Gathering:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.streams = {"stdout": bytearray(), "stderr": bytearray()}
        self.files: dict[str, bytearray] = {}

    async def output(self, stream: str, data: bytes) -> None:
        self.streams[stream] += data

    async def file(self, path: str, data: bytes, last: bool) -> None:
        self.files.setdefault(path, bytearray()).extend(data)

    def result(self, outcome: Outcome) -> Result:
        return Result(
            stdout_bytes=bytes(self.streams["stdout"]),
            stderr_bytes=bytes(self.streams["stderr"]),
            files={path: bytes(data) for path, data in self.files.items()},
            outcome=outcome,
        )


class Sandboxes:
    """A pool that a test can call like a function."""

    def __init__(self, pool: SandboxPool, portal: BlockingPortal) -> None:
        self.pool, self.portal = pool, portal

    @property
    def are_pods(self) -> bool:
        return self.pool.backend.name == "kubernetes"

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
        """Run one program in a sandbox of its own."""
        program = Program(
            code=code,
            stdin=stdin,
            args=tuple(args),
            env=dict(env or {}),
            last_line_interactive=echo,
            timeout_ms=timeout_ms,
        )
        return self.portal.call(self._run, program, staged(files or {}))

    async def _run(self, program: Program, files: list[StagedFile]) -> Result:
        sink = Gathering()
        now = anyio.current_time()
        async with self.pool.lease(deadline=now + QUEUE_SECONDS) as lease:
            deadline = anyio.current_time() + program.timeout_ms / 1000 + 20
            outcome = await lease.run(program, files, sink, deadline)
        return sink.result(outcome)


def staged(files: Mapping[str, bytes]) -> list[StagedFile]:
    return [StagedFile(path=path, read=partial(_pieces, data)) for path, data in files.items()]


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


def plan(
    *,
    preload: Sequence[str] = (),
    limits: RunLimits | None = None,
    left_out: Sequence[str] = (),
    programs: str = PROGRAMS,
) -> LocalPlan:
    return LocalPlan(
        environment=find_environment(programs),
        preload=tuple(preload),
        limits=limits or RunLimits(),
        isolation=level(probe()),
        left_out=tuple(left_out),
    )


def groups() -> Groups:
    return local_cgroups.find()


@asynccontextmanager
async def local_pool(local_plan: LocalPlan, settings: PoolSettings | None = None) -> AsyncIterator[SandboxPool]:
    settings = settings or PoolSettings(size=2, max_in_flight=16, refill_eagerly=True)
    async with SandboxPool(settings, local_plan.limits, LocalBackend(local_plan, groups())) as pool:
        yield pool


@contextmanager
def sandboxes(local_plan: LocalPlan | None = None, settings: PoolSettings | None = None) -> Iterator[Sandboxes]:
    """A pool of real sandboxes for as long as the context is open."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(local_pool(local_plan or plan(), settings)) as pool,
    ):
        yield Sandboxes(pool, portal)
