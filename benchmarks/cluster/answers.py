"""What the rows have in common: asking a service, and what its answers say."""

from __future__ import annotations

import asyncio
import time

import msgspec

from benchmarks import load, programs
from benchmarks.client import Answer
from benchmarks.rows import Row
from benchmarks.service import START_SECONDS, Service
from benchmarks.spread import percentile

POLL_SECONDS = 0.05
"""Between two looks at how many pods are ready. Shorter takes more of the CPU that they start on."""


class Phases:
    """A check that also keeps what the service says of where the time went."""

    def __init__(self) -> None:
        self._kept: dict[str, list[float]] = {}

    def __call__(self, answer: Answer) -> str:
        failure = load.printed_one(answer)
        if not failure:
            body = msgspec.json.decode(answer.body)
            for name, value in {**body["timings_ms"], "program": body["duration_ms"]}.items():
                self._kept.setdefault(name, []).append(value)
        return failure

    def figures(self) -> dict[str, dict[str, float]]:
        """A slow answer is slow in one of them: in which, p95 and the longest tell."""
        return {f"phases_p{percent}": self._at(percent) for percent in (50, 95, 100)}

    def _at(self, percent: float) -> dict[str, float]:
        return {f"{name}_ms": percentile(values, percent) for name, values in self._kept.items()}


async def asked(running: Service, due: list[float], check: Phases) -> list[load.Sample]:
    """`print(1)` at these seconds, begun with a full pool."""
    await running.full()
    body = programs.request(programs.PRINT)
    return await load.on_schedule(due, lambda: running.client.execute(body), check)


async def burst(running: Service, size: int) -> tuple[list[load.Sample], float]:
    """Use up a full pool at once: the answers, and the seconds from the burst until as many pods are ready again."""
    await running.full()
    body = programs.request(programs.PRINT)
    began = time.perf_counter()
    samples = await load.all_at_once(size, lambda: running.client.execute(body), load.printed_one)
    async with asyncio.timeout(START_SECONDS):
        while await _ready(running) < size:  # noqa: ASYNC110  # another process cannot set our event
            await asyncio.sleep(POLL_SECONDS)
    return samples, time.perf_counter() - began


async def _ready(running: Service) -> int:
    pool = (await running.health())["pool"]
    return int(pool["slots"]["ready"])  # type: ignore[index]  # JSON


def failures(samples: list[load.Sample]) -> Row:
    return Row(what="  its failures", value=load.failed(samples), unit="", bar=0)
