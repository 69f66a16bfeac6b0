"""A node that nobody hears of any more: its run is lost in its time, its pods are given up, and the pool comes back."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pool import Reason, SandboxLost
from tests.cluster.harness import Cluster
from tests.cluster.simulated import simulated_nodes
from tests.fakes.pools import CountingObserver
from tests.images.building import Images
from tests.kube.support.outages import stop, without
from tests.kube.support.pods import LOOK_SECONDS, full, kube_pool, pods, pods_are
from tests.kube.support.runs import Background, running

pytestmark = pytest.mark.slow

OTHER_NODES = 2
"""Where all nodes are gone at once, the cluster blames its own network, and evicts nobody."""
EVICTED_SECONDS = 90.0
PROGRAM = "print('begun', flush=True); import time; time.sleep(5)"


async def test_node_that_is_not_ready(cluster: Cluster, images: Images, restricted: str):
    cluster.require_ours("stopping the kubelet")
    observer = CountingObserver()
    with simulated_nodes(cluster, OTHER_NODES):
        async with kube_pool(cluster, images, restricted, observer=observer) as pool:
            await full(pool)
            before = {pod["metadata"]["name"] for pod in await pods(cluster, restricted)}
            async with running(pool, PROGRAM, timeout_seconds=8) as run:
                await stop(cluster, "kubelet")
            async with without(cluster, "kubelet"):
                evicted_seconds = await all_evicted(cluster, restricted, before)
            print(
                f"{run.error!r} after {run.ended_at - run.began_at:.2f} s; evicted after {evicted_seconds:.2f} s more"
            )
            assert_ended_well_or_lost(run)
            assert run.ended_at - run.began_at <= run.deadline_seconds + 1
            assert len(observer.words("ran")) == 1
            print(f"full again after {await full(pool):.2f} s")
            await pods_are(cluster, restricted, pool.settings.size)
            assert not before & {pod["metadata"]["name"] for pod in await pods(cluster, restricted)}


def assert_ended_well_or_lost(run: Background) -> None:
    """Whether its last words got through before nobody was heard any more is chance; that it failed is never said."""
    if run.error is not None:
        assert isinstance(run.error, SandboxLost)
        return
    assert run.outcome is not None
    assert (run.outcome.exit_code, run.outcome.reason, run.stdout) == (0, Reason.EXITED, "begun\n")


async def all_evicted(cluster: Cluster, namespace: str, names: set[str]) -> float:
    """Wait until nobody waits for the node any more; returns after how many seconds that was."""
    began = anyio.current_time()
    with anyio.fail_after(EVICTED_SECONDS):
        while names & {each["metadata"]["name"] for each in await pods(cluster, namespace) if is_left(each)}:  # noqa: ASYNC110
            await anyio.sleep(LOOK_SECONDS)
    return anyio.current_time() - began


def is_left(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" not in pod["metadata"]
