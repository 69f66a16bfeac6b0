"""One tenant floods; what another waits, beside what it would in one queue for all, in the same run.

In order of turns: tests/integration/test_flood.py. The queue for all is had by giving the other a key of the flood's
own tenant: within a tenant it is first come, first served.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import load, programs
from benchmarks.client import Client
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.service import POLL_SECONDS, service
from broker.keys import line_for

CROWD = 200
"""Requests of the flood that are there at any time."""
RATE = 2.0
"""Of the other: far less than its half of what the pool can do."""
FLOOD, SAME, OTHER = "key of the flood", "another key of the flood", "key of the other"
SETTINGS = {"BROKER_QUEUE": 4 * CROWD, "BROKER_TENANT_QUEUE": 2 * CROWD, "EXECUTION_QUEUE_TIMEOUT_SEC": 120}
IN_FLIGHT = {"BROKER_MAX_IN_FLIGHT": 4, "BROKER_POOL_SIZE": 4}


async def beside_a_flood(scale: Scale) -> list[Row]:
    """print(1) of one tenant while another keeps a crowd of them waiting."""
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("\n".join([line_for("flood", FLOOD), line_for("flood", SAME), line_for("other", OTHER)]))
        keys.flush()
        return await _measured(Path(keys.name), scale.beside_flood)


async def _measured(keys: Path, count: int) -> list[Row]:
    async with service(BROKER_KEYS_FILE=keys, **SETTINGS, **IN_FLIGHT) as running:
        other, same = running.client.with_key(OTHER), running.client.with_key(SAME)
        alone = await _asked(other, count)
        await running.full()
        async with _flood(running.client.with_key(FLOOD)) as answered:
            began, before = time.perf_counter(), len(answered)
            fair = await _asked(other, count)
            interval_ms = (time.perf_counter() - began) * 1000 / (len(answered) - before + count)
            fifo = await _asked(same, count)
    return _rows(alone, fair, fifo, interval_ms)


def _rows(alone: list[load.Sample], fair: list[load.Sample], fifo: list[load.Sample], interval_ms: float) -> list[Row]:
    p95, baseline, plain = (load.ms(samples, 95) for samples in (fair, alone, fifo))
    figures = {"alone": load.figures(alone), "beside_it": load.figures(fair), "fifo": load.figures(fifo)}
    failures = sum(map(load.failed, (alone, fair, fifo)))
    return [
        Row(
            what=f"print(1) at {RATE:.0f}/s of one tenant while another has {CROWD} waiting, p95",
            value=p95,
            unit="ms",
            bar=baseline + 3 * interval_ms,
            details={**figures, "sandbox_interval_ms": interval_ms},
        ),
        Row(what="  in hundredths of what it is first come, first served", value=100 * p95 / plain, unit="%", bar=5),
        Row(what="  alone, p95", value=baseline, unit="ms"),
        Row(what="  from one grant to the next, in the mean", value=interval_ms, unit="ms"),
        Row(what="  failures", value=failures, unit="", bar=0),
    ]


async def _asked(client: Client, count: int) -> list[load.Sample]:
    body = programs.request(programs.PRINT)
    return await load.on_schedule(load.arrivals(RATE, count), lambda: client.execute(body), load.printed_one)


@asynccontextmanager
async def _flood(client: Client) -> AsyncIterator[list[None]]:
    """A crowd that asks again as soon as it is answered; the list grows by each answer."""
    answered: list[None] = []
    body = programs.request(programs.PRINT)

    async def ask_for_ever() -> None:
        while True:
            await client.execute(body)
            answered.append(None)

    async with asyncio.TaskGroup() as group:
        crowd = [group.create_task(ask_for_ever()) for _ in range(CROWD)]
        try:
            while len(answered) < CROWD // 10:  # noqa: ASYNC110  # all of the crowd are there by then
                await asyncio.sleep(POLL_SECONDS)
            yield answered
        finally:
            for each in crowd:
                each.cancel()
