"""Components of the cluster that are away for a while, seen from a pool that goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from tests.cluster.harness import Cluster


@asynccontextmanager
async def without(cluster: Cluster, component: str, signal: str = "KILL") -> AsyncIterator[None]:
    """Do without a component; at the end it is back, and the node is Ready."""
    await stop(cluster, component, signal)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await start(cluster, component)
            if component == "apiserver":
                # Each waits up to half a minute before it looks again, and that is not what is tested.
                for waiting in ("controller-manager", "scheduler", "kubelet"):
                    await stop(cluster, waiting)
                    await start(cluster, waiting)
            await anyio.to_thread.run_sync(cluster.wait_until_ready)


async def stop(cluster: Cluster, component: str, signal: str = "KILL") -> None:
    await anyio.to_thread.run_sync(cluster.stop, component, signal)


async def start(cluster: Cluster, component: str) -> None:
    await anyio.to_thread.run_sync(cluster.start, component)
