"""One caller's programs beside another's that compute, many that sleep, or all at once."""

from __future__ import annotations

import asyncio

from benchmarks import load, programs
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.service import Service, service

HOGS = 4
HOG_SECONDS = 60
RATE = 10.0
HEALTH_RATE = 20.0
HEALTH_SECONDS = 12.0
STARTING_SECONDS = 1.0
ROOM = 320


async def beside_hogs(scale: Scale) -> list[Row]:
    """print(1) while four programs compute without end."""
    async with service(connections=HOGS + 4) as running, asyncio.TaskGroup() as group:
        hogs = [group.create_task(_hog(running, HOG_SECONDS)) for _ in range(HOGS)]
        await asyncio.sleep(STARTING_SECONDS)
        body, due = programs.request(programs.PRINT), load.arrivals(RATE, scale.beside_hogs)
        samples = await load.on_schedule(due, lambda: running.client.execute(body), load.printed_one)
        still_at_it = sum(not hog.done() for hog in hogs)
        for hog in hogs:
            hog.cancel()
    figures = {**load.figures(samples), "hogs_at_the_end": still_at_it}
    return [
        Row(
            what=f"print(1) at {RATE:.0f}/s beside {HOGS} `while True`, p99",
            value=load.ms(samples, 99),
            unit="ms",
            bar=50,
            aim=20,
            details=figures,
        ),
        Row(what="  its p50", value=load.ms(samples, 50), unit="ms"),
        Row(
            what="  its failures and hogs that stopped", value=load.failed(samples) + HOGS - still_at_it, unit="", bar=0
        ),
    ]


async def _hog(running: Service, seconds: int) -> None:
    """Never ends before its time: where it is cancelled, the service sees its client go."""
    await running.client.execute(programs.request(programs.BUSY, timeout_ms=seconds * 1000))


async def bursts(scale: Scale) -> list[Row]:
    """Twice as many at once as there are sandboxes ready, again and again."""
    samples: list[load.Sample] = []
    async with service(connections=32) as running:
        size = int((await running.health())["pool"]["size"])  # type: ignore[index]  # JSON
        body = programs.request(programs.PRINT)
        for _ in range(scale.bursts):
            await running.full()
            samples += await load.all_at_once(2 * size, lambda: running.client.execute(body), load.printed_one)
    what = f"{scale.bursts} bursts of 2 x {size}, failures"
    return [
        Row(what=what, value=load.failed(samples), unit="", bar=0, details=load.figures(samples)),
        Row(what="  p50", value=load.ms(samples, 50), unit="ms"),
        Row(what="  p95", value=load.ms(samples, 95), unit="ms"),
    ]


async def sleepers(scale: Scale) -> list[Row]:
    """Hundreds of programs that sleep at once, and how quick the service itself is meanwhile."""
    settings = {"BROKER_MAX_IN_FLIGHT": ROOM, "BROKER_QUEUE": ROOM, "EXECUTION_QUEUE_TIMEOUT_SEC": 30}
    async with service(connections=scale.sleepers + 4, **settings) as running, asyncio.TaskGroup() as group:
        body = programs.request(programs.SLEEP)
        sleeping = group.create_task(
            load.all_at_once(scale.sleepers, lambda: running.client.execute(body), load.printed_one)
        )
        due = load.arrivals(HEALTH_RATE, int(HEALTH_RATE * HEALTH_SECONDS))
        healths = await load.on_schedule(due, lambda: running.client.get("/health"), load.answered)
        samples = await sleeping
    return [
        Row(
            what=f"{scale.sleepers} programs sleeping {programs.SLEEP_SECONDS} s at once, failures",
            value=load.failed(samples),
            unit="",
            bar=0,
            details=load.figures(samples),
        ),
        Row(what="  the last one answered after", value=load.ms(samples, 100) / 1000, unit="s"),
        Row(
            what="  /health meanwhile, p99",
            value=load.ms(healths, 99),
            unit="ms",
            bar=50,
            aim=10,
            details=load.figures(healths),
        ),
        Row(what="  /health failures", value=load.failed(healths), unit="", bar=0),
    ]
