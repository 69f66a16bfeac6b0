"""A program with an idempotency key, without a pool: what it does is what a test told it."""

from __future__ import annotations

import anyio

from broker.errors import FileMissing
from broker.keyed_runs import KeyedRuns
from broker.schemas import Result, Termination, TimingsMs, Truncated
from broker.shared_run import SharedRun
from pool import PoolSaturated, Reason

RESULT = Result(
    exit_code=0,
    timed_out=False,
    duration_ms=1,
    files=[],
    execution_id="first",
    termination=Termination(Reason.EXITED, None),
    limits_hit=(),
    files_skipped=[],
    files_skipped_count=0,
    truncated=Truncated(False, False),
    isolation="none",
    timings_ms=TimingsMs(queue=0, lease=0, stage=0, run=0, collect=0),
)


class Program:
    """Counts how often it begins, and waits where it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.is_queued = False
        self.may_end = anyio.Event()
        self.error: Exception | None = None

    async def __call__(self, run: SharedRun) -> None:
        if self.is_queued:
            await anyio.sleep_forever()
        if isinstance(self.error, PoolSaturated | FileMissing):
            raise self.error
        self.begun += 1
        run.begin()
        run.add("stdout", b"hi")
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        run.result = RESULT


def quick() -> Program:
    program = Program()
    program.may_end.set()
    return program


async def call(keyed: KeyedRuns, work: Program, *, key: str = "key", digest: str = "same", caller: str = "") -> Result:
    async with keyed.joined(caller=caller, key=key, digest=digest, execution_id="first", work=work) as run:
        await run.over()
    return run.ended()
