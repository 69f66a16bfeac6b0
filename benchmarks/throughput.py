"""How many sandboxes can be used up a second, each for one program, with everything loaded in each."""

from __future__ import annotations

import time

from benchmarks import cpu, load, processes, programs
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.service import Service, service

CALLERS = 8
"""Each asks again when it is answered: twice the pool's size on two cores, so that someone always waits."""

BAR_PER_SECOND, AIM_PER_SECOND = 50.0, 100.0
USED_AT_LEAST = 0.7
"""Of the CPUs, by sandboxes: what is left idle while callers wait is the pool's fault."""


async def sustained(scale: Scale) -> list[Row]:
    rows = []
    for name, code in (("print(1)", programs.PRINT), ("pandas group-by", programs.GROUP_BY)):
        async with service(connections=CALLERS) as running:
            rows += await _measured(running, name, code, scale.sustained_seconds)
    return rows


async def _measured(running: Service, name: str, code: str, seconds: float) -> list[Row]:
    body, end = programs.request(code), time.perf_counter() + seconds
    began, service_before, machine_before = time.perf_counter(), running.meter.seconds(), cpu.machine_seconds()
    samples = await load.in_turn(
        CALLERS, lambda: time.perf_counter() > end, lambda: running.client.execute(body), load.ran_well
    )
    per_second = len(samples) / (time.perf_counter() - began)
    # With what is yet to be cleared away, and the sandboxes that replace the last ones.
    await running.full()
    machine_ms = (cpu.machine_seconds() - machine_before) * 1000 / len(samples)
    service_after = running.meter.seconds()
    service_ms = machine_ms
    if service_after is not None and service_before is not None:
        service_ms = (service_after - service_before) * 1000 / len(samples)
    possible = processes.cores() * 1000 / service_ms
    return [
        _rate_row(name, per_second, possible, {"callers": CALLERS, **load.figures(samples)}),
        Row(what="  CPU-ms a run: service and sandboxes", value=service_ms, unit="ms"),
        Row(what="  CPU-ms a run: whole machine", value=machine_ms, unit="ms"),
        Row(what="  failures", value=load.failed(samples), unit="", bar=0),
    ]


def _rate_row(name: str, per_second: float, possible: float, details: dict[str, object]) -> Row:
    bar = max(BAR_PER_SECOND, USED_AT_LEAST * possible) if name == "print(1)" else None
    aim = AIM_PER_SECOND if name == "print(1)" else None
    what = f"{name}, sandboxes used once, sustained"
    return Row(what=what, value=per_second, unit="/s", bar=bar, aim=aim, more_is_better=True, details=details)
