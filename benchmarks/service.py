"""A `code-interpreter serve` of the benchmark's own, on a free loopback port."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from benchmarks import processes
from benchmarks.client import Client, client_of
from benchmarks.cpu import Meter, meter
from pool.local.cgroups import IDLE_SECONDS

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
SETTLE_SECONDS = 2 * IDLE_SECONDS + 1
"""The same counts for so long: what ended has been cleared away, what was kept for a while too, and what was started
stands."""

_SERVING = re.compile(rb"Serving http://127\.0\.0\.1:(\d+)")


class Service:
    """One that runs, and a client of it."""

    def __init__(self, pid: int, client: Client, meter: Meter) -> None:
        self.pid = pid
        self.client = client
        self.meter = meter

    async def health(self) -> dict[str, object]:
        body: dict[str, object] = msgspec.json.decode((await self.client.get("/health")).body)
        return body

    async def full(self) -> None:
        """Return when all sandboxes that the pool wants are ready, nobody has one, and none is on its way out."""
        async with asyncio.timeout(START_SECONDS):
            while not await self._is_full():  # noqa: ASYNC110  # another process cannot set our event
                await asyncio.sleep(POLL_SECONDS)

    async def _is_full(self) -> bool:
        pool = (await self.health())["pool"]
        slots = pool["slots"]  # type: ignore[index]  # JSON
        return bool(slots["ready"] == pool["size"] == sum(slots.values()))  # type: ignore[index]

    async def quiescent(self) -> dict[str, int]:
        """Wait until it is full and nothing of it comes or goes any more; returns what there is of it then."""
        last: dict[str, int] = {}
        async with asyncio.timeout(START_SECONDS):
            while True:
                await self.full()
                now = processes.counts(self.pid)
                if now == last:
                    return now
                last = now
                await asyncio.sleep(SETTLE_SECONDS)

    def pss_mib(self) -> float:
        """All of it, sandboxes too."""
        return processes.pss_bytes(processes.tree(self.pid)) / processes.MIB


@asynccontextmanager
async def service(*, connections: int = 4, **settings: object) -> AsyncIterator[Service]:
    """Start one with these settings and defaults for the others, wait until its pool is full; end it by its pid."""
    with tempfile.TemporaryDirectory(prefix="code-interpreter-bench-") as folder, meter() as counting:
        given = {name: str(value) for name, value in settings.items()}
        with open(f"{folder}/log", "wb") as log:  # noqa: ASYNC230  # nothing else runs yet
            started = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "broker", "serve"),
                cwd=ROOT,
                env={**_environment(folder), **given},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        try:
            counting.enter(started.pid)
            port = await _port(started, Path(folder, "log"))
            async with client_of(port, connections=connections) as client:
                running = Service(started.pid, client, counting)
                await _filled(running, Path(folder, "log"))
                yield running
        finally:
            await _end(started)


def _environment(folder: str) -> dict[str, str]:
    # Not ours: what a shell happens to have set must not decide what is measured.
    path = f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin"
    paths = f"{ROOT}:{ROOT / 'sandbox-runtime'}"
    return {"PATH": path, "PYTHONPATH": paths, "PORT": "0", "FILE_STORAGE_DIR": f"{folder}/files"}


async def _port(started: asyncio.subprocess.Process, log: Path) -> int:
    assert started.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        line = await started.stdout.readline()
    found = _SERVING.match(line)
    if found is None:
        raise SystemExit(f"the service did not start: {line.decode()}{_end_of(log)}")
    return int(found[1])


async def _filled(running: Service, log: Path) -> None:
    try:
        await running.full()
    except TimeoutError:
        raise SystemExit(f"the pool did not fill: {_end_of(log)}") from None


def _end_of(log: Path) -> str:
    return log.read_text()[-2000:]


async def _end(started: asyncio.subprocess.Process) -> None:
    if started.returncode is None:
        started.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await started.wait()
    except TimeoutError:
        started.kill()
        await started.wait()
