"""What idle sandboxes cost in memory, and what the service does without any."""

from __future__ import annotations

from benchmarks import processes
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.service import Service, service


async def idle(scale: Scale) -> list[Row]:
    """Two pools of different size: their difference is what a sandbox adds, shared pages counted once."""
    fewer, more = scale.idle_sizes
    small, large = await _pss_mib(fewer), await _pss_mib(more)
    marginal = (large["all"] - small["all"]) / (more - fewer)
    fixed = small["all"] - fewer * marginal
    details = {f"{fewer} idle": small, f"{more} idle": large}
    return [
        Row(
            what=f"PSS of an idle sandbox, ({more} - {fewer} idle) ÷ {more - fewer}",
            value=marginal,
            unit="MiB",
            bar=10,
            aim=6,
            details=details,
        ),
        Row(what="PSS of the service without sandboxes, templates too", value=fixed, unit="MiB", bar=150, aim=100),
        Row(what="  of that the process that serves HTTP", value=small["broker"], unit="MiB"),
    ]


async def _pss_mib(size: int) -> dict[str, float]:
    async with service(BROKER_POOL_SIZE=size) as running:
        await running.quiescent()
        return {"all": running.pss_mib(), "broker": broker_pss_mib(running)}


def broker_pss_mib(running: Service) -> float:
    return processes.pss_bytes([running.pid]) / processes.MIB
