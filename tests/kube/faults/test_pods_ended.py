"""Pods that others end, or the kernel: what runs in them comes to its end or is lost, and is never run again."""

from __future__ import annotations

import anyio
import pytest

from pool import Reason, RunLimits, SandboxLost
from pool.kube.manifest import POOL as POOL_LABEL
from tests.cluster.harness import Cluster
from tests.fakes.pools import CountingObserver
from tests.images.building import Images
from tests.kube.support.pods import full, gone, kube_pool, kubectl, pods, pods_are, ran, until
from tests.kube.support.runs import running

pytestmark = pytest.mark.slow

DELETE_SECONDS = 5.0
COUNTING = """
import time
for number in range({count}):
    print(number, flush=True)
    time.sleep(0.1)
_ = open("done.txt", "w").write("done")
"""
# Faster than any watch: each of 64 processes touches its pages in a single system call, and stays below its own limit.
ALLOCATING = """
import mmap, os
print("begun", flush=True)
for _ in range(64):
    if os.fork() == 0:
        break
area = mmap.mmap(-1, 48 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
"""
FILLING = """
import os
print("begun", flush=True)
for place in ("/workspace", "/tmp", "/dev/shm"):
    with open(place + "/filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 22))
        except OSError as error:
            print(place, error.strerror, flush=True)
os.remove("/workspace/filler")
"""


async def test_pod_deleted_at_once_loses_its_run(cluster: Cluster, images: Images, restricted: str):
    observer = CountingObserver()
    async with kube_pool(cluster, images, restricted, observer=observer) as pool:
        await full(pool)
        async with running(pool, COUNTING.format(count=300), timeout_seconds=30) as run:
            deleted_at = anyio.current_time()
            await kubectl(cluster, "delete", "pod", run.sandbox, "-n", restricted, "--grace-period=1", "--wait=false")
        assert isinstance(run.error, SandboxLost)
        print(f"lost after {run.ended_at - deleted_at:.2f} s")
        assert run.ended_at - deleted_at < DELETE_SECONDS
        assert observer.words("ran") == ["lost"]
        print(f"full again after {await full(pool):.2f} s")
        await pods_are(cluster, restricted, pool.settings.size)


async def test_program_ends_well_in_a_pod_that_is_asked_to_go(cluster: Cluster, images: Images, restricted: str):
    async with kube_pool(cluster, images, restricted) as pool:
        await full(pool)
        async with running(pool, COUNTING.format(count=60), timeout_seconds=30) as run:
            await kubectl(cluster, "delete", "pod", run.sandbox, "-n", restricted, "--wait=false")
        assert run.error is None
        assert run.outcome is not None
        assert run.outcome.exit_code == 0
        assert run.stdout.split() == [str(number) for number in range(60)]
        assert run.sink.files == {"done.txt": b"done"}
        await full(pool)
        await pods_are(cluster, restricted, pool.settings.size)


async def test_idle_pods_that_are_deleted_are_replaced(cluster: Cluster, images: Images, restricted: str):
    async with kube_pool(cluster, images, restricted) as pool:
        await full(pool)
        before = {pod["metadata"]["name"] for pod in await pods(cluster, restricted)}
        await kubectl(cluster, "delete", "pods", "--all", "-n", restricted, "--wait=false")
        await until(lambda: not pool.snapshot().slots["ready"])
        print(f"full again after {await full(pool):.2f} s")
        after = {pod["metadata"]["name"] for pod in await pods(cluster, restricted)}
        assert not before & after
        assert len(after) == pool.settings.size
        assert (await ran(pool, "print(1)"))[0].exit_code == 0


@pytest.mark.parametrize("code", [ALLOCATING, FILLING], ids=["memory", "files"])
async def test_memory_that_runs_out_ends_the_run_in_time(cluster: Cluster, images: Images, restricted: str, code: str):
    limits = RunLimits(memory_bytes=64 * 2**20)
    async with kube_pool(cluster, images, restricted, limits=limits) as pool:
        await full(pool)
        async with running(pool, code, timeout_seconds=10) as run:
            pass
        print(f"{run.outcome or run.error!r} after {run.ended_at - run.began_at:.2f} s: {run.stdout!r}")
        assert run.ended_at - run.began_at < run.deadline_seconds
        assert isinstance(run.error, SandboxLost) or run.outcome is not None
        assert code == FILLING or run.outcome is None or run.outcome.reason is not Reason.EXITED
        print(f"full again after {await full(pool):.2f} s")
        await pods_are(cluster, restricted, pool.settings.size)


async def test_pod_is_gone_soon_after_its_run(cluster: Cluster, images: Images, restricted: str):
    async with kube_pool(cluster, images, restricted) as pool:
        await full(pool)
        async with running(pool, "print(1)") as run:
            pass
        await gone(cluster, restricted, run.sandbox, DELETE_SECONDS)
        print(f"gone {anyio.current_time() - run.ended_at:.2f} s after the answer")


async def test_drain_replaces_the_idle_and_lets_the_running_end(cluster: Cluster, images: Images, restricted: str):
    cluster.require_ours("draining a node")
    (node,) = [each["metadata"]["name"] for each in cluster.get("nodes")["items"]]
    async with kube_pool(cluster, images, restricted, config={"pool": restricted}) as pool:
        await full(pool)
        before = {pod["metadata"]["name"] for pod in await pods(cluster, restricted)}
        try:
            async with running(pool, COUNTING.format(count=80), timeout_seconds=30) as run:
                idle = before - {run.sandbox}
                selector = f"--pod-selector={POOL_LABEL}={restricted}"
                await kubectl(cluster, "drain", node, "--delete-emptydir-data", "--timeout=60s", selector)
                assert run.over.is_set()
        finally:
            await kubectl(cluster, "uncordon", node)
        assert run.outcome is not None, run.error
        assert run.outcome.exit_code == 0
        assert run.sink.files == {"done.txt": b"done"}
        print(f"full {await full(pool):.2f} s after the node was uncordoned")
        assert not idle & {pod["metadata"]["name"] for pod in await pods(cluster, restricted)}
