"""Requests on a schedule (open loop): the next one goes out whether or not the last one is answered.

Latency counts from the moment at which a request should have gone out (as wrk2 does it): whoever waits
for an answer before asking again hides the very queueing that a pool exists to remove.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from benchmarks.client import Answer
from benchmarks.spread import percentile, spread_ms

SEED = 1
"""Of the arrivals. The same in each run, so that two runs differ by the service alone."""

SPIN_SECONDS = 0.002
"""The event loop's timers are a millisecond coarse: the last bit of a wait is spent turning the loop."""

Ask = Callable[[], Awaitable[Answer]]


class Sample(msgspec.Struct, frozen=True):
    """One answer."""

    seconds: float
    """From when its request was due."""
    failure: str = ""
    """What was wrong with it, in a word or two."""


def arrivals(rate: float, count: int) -> list[float]:
    """Seconds from the start, as of many clients who know nothing of each other (a Poisson process)."""
    chance, at, due = random.Random(SEED), 0.0, []
    for _ in range(count):
        at += chance.expovariate(rate)
        due.append(at)
    return due


async def on_schedule(due: Iterable[float], ask: Ask, check: Callable[[Answer], str]) -> list[Sample]:
    """Ask at these seconds from now on; returns when all are answered."""
    samples: list[Sample] = []
    start = time.perf_counter() + SPIN_SECONDS
    async with asyncio.TaskGroup() as group:
        for seconds in due:
            await _until(start + seconds)
            group.create_task(_sample(start + seconds, ask, check, samples))
    return samples


async def all_at_once(count: int, ask: Ask, check: Callable[[Answer], str]) -> list[Sample]:
    return await on_schedule([0.0] * count, ask, check)


async def in_turn(callers: int, until: Callable[[], bool], ask: Ask, check: Callable[[Answer], str]) -> list[Sample]:
    """Callers that each ask again as soon as they are answered (closed loop): for how much can be done at most."""
    samples: list[Sample] = []

    async def caller() -> None:
        while not until():
            await _sample(time.perf_counter(), ask, check, samples)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return samples


async def _until(due: float) -> None:
    await asyncio.sleep(max(0.0, due - SPIN_SECONDS - time.perf_counter()))
    while time.perf_counter() < due:  # noqa: ASYNC110  # nobody could set an event on time
        await asyncio.sleep(0)


async def _sample(due: float, ask: Ask, check: Callable[[Answer], str], samples: list[Sample]) -> None:
    try:
        failure = check(await ask())
    except (OSError, EOFError) as error:
        failure = type(error).__name__
    samples.append(Sample(time.perf_counter() - due, failure))


def printed_one(answer: Answer) -> str:
    """Check for a program that prints 1."""
    return ran_well(answer) or ("" if msgspec.json.decode(answer.body)["stdout"] == "1\n" else "wrong output")


def ran_well(answer: Answer) -> str:
    if answer.status != 200:
        return f"status {answer.status}"
    exit_code = msgspec.json.decode(answer.body)["exit_code"]
    return "" if exit_code == 0 else f"exit code {exit_code}"


def answered(answer: Answer) -> str:
    return "" if answer.status == 200 else f"status {answer.status}"


def failures(samples: Sequence[Sample]) -> dict[str, int]:
    """How many failed, by what was wrong."""
    counts: dict[str, int] = {}
    for sample in samples:
        if sample.failure:
            counts[sample.failure] = counts.get(sample.failure, 0) + 1
    return counts


def failed(samples: Sequence[Sample]) -> int:
    return sum(failures(samples).values())


def ms(samples: Sequence[Sample], percent: float) -> float:
    """A percentile of the latencies."""
    return percentile([sample.seconds for sample in samples], percent) * 1000


def figures(samples: Sequence[Sample]) -> dict[str, object]:
    """What a result file keeps of a load: failed requests count with the time that they took."""
    return {**spread_ms([sample.seconds for sample in samples]), "failures": failures(samples)}
