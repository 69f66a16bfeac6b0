"""Many at once: how long they wait, how soon there are as many pods again, and what a few pods can do at most."""

from __future__ import annotations

import time
from statistics import median

from benchmarks import load, programs
from benchmarks.cluster.answers import burst, failures
from benchmarks.cluster.ground import REUSED, SMALL_FILES, Ground
from benchmarks.cluster.plain import plain
from benchmarks.cluster.scale import Scale
from benchmarks.rows import Row

SIZE = 16
SUSTAINED_SIZE, CALLERS = 4, 8
ADVISED_RUNS = 20
"""What the settings advise at most; it is measured beside pods that are hardly ever replaced."""


async def bursts(ground: Ground, scale: Scale) -> list[Row]:
    """The refill's rates come from the same bursts; starts by plain calls before and after them."""
    samples: list[load.Sample] = []
    refills, starts = [], []
    async with plain(ground) as pods:
        for half in range(2):
            starts += [await pods.seconds_of_start(SIZE) for _ in range(scale.plain_starts // 2)]
            if half == 0:
                async with ground.service(connections=SIZE, BROKER_POOL_SIZE=SIZE, **SMALL_FILES) as running:
                    for _ in range(scale.bursts):
                        answers, seconds = await burst(running, SIZE)
                        samples += answers
                        refills.append(seconds)
    refill, start = SIZE / median(refills), SIZE / median(starts)
    return [
        Row(
            what=f"burst of {SIZE} on {SIZE} warm pods, {scale.bursts} times, p95",
            value=load.ms(samples, 95),
            unit="ms",
            bar=200,
            aim=60,
            details=load.figures(samples),
        ),
        failures(samples),
        Row(
            what="refill after it ÷ plain POSTs of the same pod, until its zygote is ready",
            value=refill / start,
            unit="x",
            bar=0.8,
            aim=1,
            more_is_better=True,
            details={"refill_seconds": refills, "plain_seconds": starts},
        ),
        Row(what="  refill, pods", value=refill, unit="/s"),
        Row(what="  plain POSTs, pods", value=start, unit="/s"),
    ]


async def sustained(ground: Ground, scale: Scale) -> list[Row]:
    rate, samples = await _sustained(ground, scale, **REUSED)
    advised_rate, advised = await _sustained(ground, scale, **{**REUSED, "BROKER_MAX_RUNS_PER_SANDBOX": ADVISED_RUNS})
    return [
        Row(
            what=f"pods reused, sustained, {SUSTAINED_SIZE} pods and {CALLERS} callers",
            value=rate,
            unit="/s",
            bar=40,
            aim=100,
            more_is_better=True,
            details=load.figures(samples),
        ),
        failures(samples),
        Row(
            what=f"  with a new pod after {ADVISED_RUNS} runs",
            value=advised_rate,
            unit="/s",
            details=load.figures(advised),
        ),
    ]


async def _sustained(ground: Ground, scale: Scale, **settings: object) -> tuple[float, list[load.Sample]]:
    """Answers a second, and the answers."""
    body = programs.request(programs.PRINT)
    # No more pods for those who wait: starting them would take the CPU of the programs that are measured.
    sizes = {"BROKER_POOL_SIZE": SUSTAINED_SIZE, "BROKER_MAX_IN_FLIGHT": SUSTAINED_SIZE}
    async with ground.service(connections=CALLERS, **sizes, **settings) as running:
        began = time.perf_counter()
        samples = await load.in_turn(
            CALLERS,
            lambda: time.perf_counter() - began > scale.sustained_seconds,
            lambda: running.client.execute(body),
            load.printed_one,
        )
        seconds = time.perf_counter() - began
    return len(samples) / seconds, samples
