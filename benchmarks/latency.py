"""How long one answer takes, with arrivals below the refill rate, against a bare interpreter in the same run."""

from __future__ import annotations

from benchmarks import load, peers, programs
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.service import Service, service
from benchmarks.spread import percentile, spread_ms

RATE = 10.0
FASTER_RATE = 20.0


async def health(scale: Scale) -> list[Row]:
    """The cheapest answer there is: what client and HTTP cost in all rows."""
    async with service() as running:
        due = load.arrivals(RATE, min(scale.arrivals, 300))
        samples = await load.on_schedule(due, lambda: running.client.get("/health"), load.answered)
    figures = load.figures(samples)
    return [Row(what="/health, p50 (client and HTTP alone)", value=load.ms(samples, 50), unit="ms", details=figures)]


async def first_print(scale: Scale) -> list[Row]:
    async with service() as running:
        bare = peers.seconds_of(peers.plain_python(), programs.PRINT, scale.bare_prints // 2)
        samples = await _asked(running, programs.PRINT, RATE, scale.arrivals)
        bare += peers.seconds_of(peers.plain_python(), programs.PRINT, scale.bare_prints // 2)
        faster = await _asked(running, programs.PRINT, FASTER_RATE, scale.arrivals)
    details = {"rate": RATE, **load.figures(samples), "bare": spread_ms(bare)}
    return [
        _ratio_row(f"print(1) at {RATE:.0f}/s, p50 ÷ bare interpreter", samples, bare, 0.6, 0.3, details),
        Row(what="  its p50", value=load.ms(samples, 50), unit="ms"),
        Row(what="  its p99", value=load.ms(samples, 99), unit="ms", bar=25, aim=10),
        Row(what="  its failures", value=load.failed(samples), unit="", bar=0),
        Row(
            what=f"  its p99 at {FASTER_RATE:.0f}/s", value=load.ms(faster, 99), unit="ms", details=load.figures(faster)
        ),
    ]


async def first_group_by(scale: Scale) -> list[Row]:
    async with service() as running:
        bare = peers.seconds_of(str(peers.PROGRAMS), programs.GROUP_BY, scale.bare_group_bys)
        samples = await _asked(running, programs.GROUP_BY, RATE, scale.arrivals)
    details = {"rate": RATE, **load.figures(samples), "bare": spread_ms(bare)}
    return [
        _ratio_row(f"pandas group-by at {RATE:.0f}/s, p50 ÷ bare python", samples, bare, 1 / 12, 1 / 20, details),
        Row(what="  its p50", value=load.ms(samples, 50), unit="ms"),
        Row(what="  its p99", value=load.ms(samples, 99), unit="ms", bar=50, aim=25),
        Row(what="  its failures", value=load.failed(samples), unit="", bar=0),
    ]


async def _asked(running: Service, code: str, rate: float, count: int) -> list[load.Sample]:
    await running.full()
    body = programs.request(code)
    check = load.printed_one if code == programs.PRINT else load.ran_well
    return await load.on_schedule(load.arrivals(rate, count), lambda: running.client.execute(body), check)


def _ratio_row(
    what: str, samples: list[load.Sample], bare: list[float], bar: float, aim: float, details: dict[str, object]
) -> Row:
    ratio = load.ms(samples, 50) / (percentile(bare, 50) * 1000)
    return Row(what=what, value=ratio, unit="x", bar=bar, aim=aim, details=details)
