"""Whether anything is left behind: after ten thousand runs there must be what there was after one thousand."""

from __future__ import annotations

from benchmarks import load, programs
from benchmarks.memory import broker_pss_mib
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.service import Service, service

CALLERS = 8
PSS_GROWTH_PERCENT = 5


async def many_runs(scale: Scale) -> list[Row]:
    fewer, more = scale.runs
    async with service(connections=CALLERS) as running:
        failed = await _run(running, fewer)
        before, before_mib = await running.quiescent(), broker_pss_mib(running)
        failed += await _run(running, more - fewer)
        after, after_mib = await running.quiescent(), broker_pss_mib(running)
    growth = (after_mib / before_mib - 1) * 100
    rows = [Row(what=f"  {name}, more", value=after[name] - before[name], unit="", bar=0) for name in before]
    return [
        Row(
            what=f"{more} runs against {fewer}: failures",
            value=failed,
            unit="",
            bar=0,
            details={"before": before, "after": after, "pss_mib": [before_mib, after_mib]},
        ),
        *rows,
        Row(what="  PSS of the service, more", value=growth, unit="%", bar=PSS_GROWTH_PERCENT),
    ]


async def _run(running: Service, count: int) -> int:
    left = iter(range(count - CALLERS + 1))
    body = programs.request(programs.PRINT)
    samples = await load.in_turn(
        CALLERS, lambda: next(left, None) is None, lambda: running.client.execute(body), load.printed_one
    )
    return load.failed(samples)
