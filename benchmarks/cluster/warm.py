"""One answer from a pod that is warm, beside a pod for each request and an exec for each request."""

from __future__ import annotations

from statistics import median

from benchmarks import load
from benchmarks.cluster.answers import Phases, asked, burst, failures
from benchmarks.cluster.ground import REUSED, SMALL_FILES, Ground
from benchmarks.cluster.plain import Plain, plain
from benchmarks.cluster.scale import Scale
from benchmarks.rows import Row
from benchmarks.spread import percentile, spread_ms

RATE = 10.0
SIZE = 4
SINGLE_SIZE = 8
"""By the rule of `docs/operations.md`: twice what is used up while one is replaced."""


async def reused(ground: Ground, scale: Scale) -> list[Row]:
    phases = Phases()
    async with plain(ground) as pods:
        peers = await _peers(pods, scale)
        async with ground.service(BROKER_POOL_SIZE=SIZE, **REUSED) as running:
            samples = await asked(running, load.arrivals(RATE, scale.warm_runs), phases)
        for name, seconds in (await _peers(pods, scale)).items():
            peers[name] += seconds
    details = {"rate": RATE, "size": SIZE, **load.figures(samples), **phases.figures()}
    return [
        Row(
            what=f"print(1) over HTTP at {RATE:.0f}/s, pods reused, p50",
            value=load.ms(samples, 50),
            unit="ms",
            bar=10,
            aim=5,
        ),
        Row(what="  its p99", value=load.ms(samples, 99), unit="ms", bar=50, aim=20, details=details),
        failures(samples),
        _ratio("  p50 of a pod for each request ÷ its p50", peers["pod"], samples, 100, 300),
        _ratio("  p50 of an exec for each request ÷ its p50", peers["exec"], samples, 8, 20),
    ]


async def _peers(pods: Plain, scale: Scale) -> dict[str, list[float]]:
    """Half of them: the other half comes after the service was measured, as what the machine does may change."""
    return {
        "pod": await pods.seconds_of_pods(scale.pods_per_request // 2),
        "exec": await pods.seconds_of_execs(scale.execs_per_request // 2),
    }


def _ratio(what: str, seconds: list[float], samples: list[load.Sample], bar: float, aim: float) -> Row:
    value = percentile(seconds, 50) * 1000 / load.ms(samples, 50)
    return Row(what=what, value=value, unit="x", bar=bar, aim=aim, more_is_better=True, details=spread_ms(seconds))


async def single(ground: Ground, scale: Scale) -> list[Row]:
    """Each pod used once, at half the rate at which they can be replaced."""
    phases = Phases()
    async with ground.service(BROKER_POOL_SIZE=SINGLE_SIZE, **SMALL_FILES) as running:
        # Of several: one burst is refilled in 5 s and the next in 8, and the row would be of another load each time.
        refills = [(await burst(running, SINGLE_SIZE))[1] for _ in range(scale.bursts // 2)]
        rate = SINGLE_SIZE / median(refills) / 2
        samples = await asked(running, load.arrivals(rate, scale.single_runs), phases)
    about = {"rate": rate, "refill_seconds": refills, "size": SINGLE_SIZE}
    details = {**about, **load.figures(samples), **phases.figures()}
    what = f"print(1), pods used once, at half the refill rate ({rate:.2g}/s), p95"
    return [
        Row(what=what, value=load.ms(samples, 95), unit="ms", bar=60, aim=20, details=details),
        Row(what="  its p50", value=load.ms(samples, 50), unit="ms"),
        failures(samples),
    ]
