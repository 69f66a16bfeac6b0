"""A service with a program running in each of several sandboxes, to be killed by test_death_of_service.py.

Says on stdout, as one line of JSON, where its cgroups are, as soon as every program runs. Closes in good order
when its stdin ends.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import anyio

from pool import PoolSettings, Program, SandboxLost, SandboxPool, StagedFile
from pool.local import LocalBackend
from tests.hostile.attack import program
from tests.sandboxes import local_pool, plan

RUNNING = "running"
PROGRAMS = (
    "time.sleep(1000)",
    "while True: pass",
    "children(5, lambda: (os.setsid(), children(1, signal.pause), signal.pause()))\nsignal.pause()",
    "for number in set(signal.valid_signals()) - {9, 19}: signal.signal(number, signal.SIG_IGN)\n"
    "while True: time.sleep(1000)",
    "while True: attempt(children, 1, signal.pause)",
    "os.kill(os.getpid(), signal.SIGSTOP)",
)
SETTINGS = PoolSettings(size=2, max_in_flight=len(PROGRAMS), drain_seconds=0.1)


class Listening:
    """A sink that hears when a program runs."""

    def __init__(self) -> None:
        self.heard = anyio.Event()

    async def output(self, stream: str, data: bytes) -> None:
        self.heard.set()

    async def file(self, path: str, data: bytes, last: bool) -> None:
        return


async def run(pool: SandboxPool, code: str, sink: Listening) -> None:
    files: list[StagedFile] = []
    order = Program(code=program(f"print({RUNNING!r}, flush=True)\n{code}"), timeout_ms=600_000)
    try:
        async with pool.lease(deadline=anyio.current_time() + 60) as lease:
            await lease.run(order, files, sink, anyio.current_time() + 700)
    except SandboxLost:  # cut when the pool closes
        return


async def main() -> None:
    async with local_pool(plan(), SETTINGS) as pool, anyio.create_task_group() as tasks:
        assert isinstance(pool.backend, LocalBackend)
        sinks = [Listening() for _ in PROGRAMS]
        for code, sink in zip(PROGRAMS, sinks, strict=True):
            tasks.start_soon(partial(run, pool, code, sink))
        for sink in sinks:
            await sink.heard.wait()
        print(json.dumps(pool.backend._groups.parents), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
