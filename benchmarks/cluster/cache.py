"""What a big namespace costs the service: other replicas' pods in its cache, and their news. Simulated by kwok."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from benchmarks import processes
from benchmarks.cluster.ground import POOL, Ground, on
from benchmarks.cluster.scale import Scale
from benchmarks.rows import Row
from benchmarks.service import Service
from broker.at_once import for_each
from pool.kube import manifest
from pool.kube.api import MERGE_PATCH, Api, connect
from pool.kube.troubles import ClusterError
from pool.kube.witness import RENEW_SECONDS
from pool.local import USUAL_PRELOAD
from pool.settings import RunLimits
from tests.cluster.simulated import simulated_nodes

NODES = 5
EVENTS_PER_SECOND = 20.0
AT_ONCE = 8
SIMULATED_SECONDS = 120.0
SETTLE_SECONDS = 3.0
OTHER = "another-replica"


async def cache(ground: Ground, scale: Scale) -> list[Row]:
    with on(ground.cluster, ground.image) as own, simulated_nodes(own.cluster, NODES) as nodes:
        api = await connect(own.kubeconfig)
        try:
            async with _simulated(own, api, nodes, scale.simulated_pods) as names:
                return await _measured(own, api, names, scale.watched_seconds)
        finally:
            await api.close()


async def _measured(ground: Ground, api: Api, names: list[str], seconds: float) -> list[Row]:
    async with _replica(ground, api), ground.service(BROKER_POOL_SIZE=1) as running:
        await asyncio.sleep(SETTLE_SECONDS)
        quiet = await _cpu_share(running, seconds)
        async with _news(ground, api, names):
            watching = await _cpu_share(running, seconds)
        pss_mib = processes.pss_bytes([running.pid]) / processes.MIB
    details = {"with_events_percent": watching * 100, "without_percent": quiet * 100}
    share = (watching - quiet) * 100
    events = f"{EVENTS_PER_SECOND:.0f} events/s"
    return [
        Row(what=f"PSS of the service with {len(names)} pods in its cache", value=pss_mib, unit="MiB", bar=200),
        Row(what=f"  its CPU for {events}, of a core", value=share, unit="%", bar=5, details=details),
        Row(what="  its CPU with them, of a core", value=watching * 100, unit="%"),
    ]


async def _cpu_share(running: Service, seconds: float) -> float:
    before, began = _cpu_seconds(running.pid), anyio.current_time()
    await asyncio.sleep(seconds)
    return (_cpu_seconds(running.pid) - before) / (anyio.current_time() - began)


def _cpu_seconds(pid: int) -> float:
    """Of all threads, by the scheduler's own clock: ticks of 10 ms are too coarse for a percent."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


# --- what is simulated ---


@asynccontextmanager
async def _simulated(ground: Ground, api: Api, nodes: list[str], count: int) -> AsyncIterator[list[str]]:
    """Pods as another replica would have made them, bound to nodes that say they run them; their names."""
    plan = manifest.Plan(config=ground.config(), limits=RunLimits(), preload_if_there=USUAL_PRELOAD)
    names = [f"other-{number}" for number in range(count)]
    path = f"/api/v1/namespaces/{ground.namespace}/pods"

    async def make(number: int) -> None:
        body = manifest.pod(plan, name=names[number], owner=OTHER, anchor_uid=None)
        body["spec"]["nodeName"] = nodes[number % len(nodes)]
        await api.call("POST", path, body=msgspec.json.encode(body))

    async def remove(number: int) -> None:
        # At once: nobody runs them. kubectl would take longer than anybody waits.
        try:
            await api.call("DELETE", f"{path}/{names[number]}", body=b'{"gracePeriodSeconds": 0}')
        except ClusterError as error:
            if not error.is_gone:
                raise

    try:
        await for_each(range(count), AT_ONCE, make)
        waiting = f"--timeout={SIMULATED_SECONDS:.0f}s"
        ground.cluster.kubectl(
            *("wait", "--for=condition=Ready", "pod", "--all", "-n", ground.namespace, waiting),
            timeout=SIMULATED_SECONDS + 10,
        )
        yield names
    finally:
        await for_each(range(count), AT_ONCE, remove)


@asynccontextmanager
async def _replica(ground: Ground, api: Api) -> AsyncIterator[None]:
    """That other replica is alive: it renews its Lease. Otherwise ours would delete its pods."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{ground.namespace}/leases"
    lease = {"metadata": {"name": OTHER, "labels": {manifest.POOL: POOL}}, "spec": {"holderIdentity": OTHER}}
    await api.call("POST", path, body=msgspec.json.encode(lease))

    async def renew() -> None:
        for number in itertools.count():
            change = {"metadata": {"annotations": {"renewed": str(number)}}}
            await api.call("PATCH", f"{path}/{OTHER}", body=msgspec.json.encode(change), content=MERGE_PATCH)
            await asyncio.sleep(RENEW_SECONDS)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(renew)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _news(ground: Ground, api: Api, names: list[str]) -> AsyncIterator[None]:
    """Changes of those pods, one after the other, at an even pace."""

    async def change() -> None:
        began = anyio.current_time()
        for number, name in enumerate(itertools.cycle(names)):
            await anyio.sleep_until(began + number / EVENTS_PER_SECOND)
            body = msgspec.json.encode({"metadata": {"annotations": {"news": str(number)}}})
            path = f"/api/v1/namespaces/{ground.namespace}/pods/{name}"
            await api.call("PATCH", path, body=body, content=MERGE_PATCH)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change)
        yield
        tasks.cancel_scope.cancel()
