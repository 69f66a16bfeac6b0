"""Replicas share a namespace and never talk to each other: whose a pod is, and what becomes of those of the dead."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread
import pytest

from pool import SandboxPool
from pool.kube.manifest import FREE, OWNER
from tests.cluster.harness import Cluster
from tests.images.building import Images
from tests.kube.support.outages import without
from tests.kube.support.pods import full, kube_pool, pods, pods_are, ran, until
from tests.source_tree import ROOT

pytestmark = pytest.mark.slow

BURIED_SECONDS = 30.0
OUTAGE_SECONDS = 60.0
ALONE = """
import sys
from pathlib import Path
import anyio
from tests.cluster.harness import Cluster
from tests.images.building import IMAGES
from tests.kube.support.pods import full, kube_pool

async def main(kubeconfig, namespace):
    async with kube_pool(Cluster(Path(kubeconfig), is_ours=True), IMAGES, namespace, replica="doomed") as pool:
        await full(pool)
        print("full", flush=True)
        await anyio.sleep_forever()

anyio.run(main, *sys.argv[1:])
"""


def owner_of(pool: SandboxPool) -> str:
    return str(pool.backend.owner)  # type: ignore[attr-defined]  # of KubeBackend


async def owners(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Pods that are not being deleted, and whose they are."""
    found = [each["metadata"] for each in await pods(cluster, namespace)]
    return {each["name"]: each["labels"][OWNER] for each in found if "deletionTimestamp" not in each}


@contextmanager
def another_replica(cluster: Cluster, namespace: str) -> Iterator[subprocess.Popen[str]]:
    """One in a process of its own, whose pool is full."""
    command = [sys.executable, "-c", ALONE, str(cluster.kubeconfig), namespace]
    path = f"{ROOT}:{ROOT / 'sandbox-runtime'}"
    with subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "full\n"
            yield process
        finally:
            process.kill()


async def test_nobody_leases_the_pods_of_another(cluster: Cluster, images: Images, restricted: str):
    async with (
        kube_pool(cluster, images, restricted, replica="one") as one,
        kube_pool(cluster, images, restricted, replica="two") as two,
    ):
        await full(one)
        await full(two)
        whose = await owners(cluster, restricted)
        used: dict[str, set[str]] = {owner_of(one): set(), owner_of(two): set()}

        async def use(pool: SandboxPool) -> None:
            for _ in range(4):
                async with pool.lease(deadline=anyio.current_time() + 30) as lease:
                    used[owner_of(pool)].add(lease.sandbox)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use, one)
            tasks.start_soon(use, two)
        assert not used[owner_of(one)] & used[owner_of(two)]
        for owner, names in used.items():
            assert {whose[name] for name in names & whose.keys()} == {owner}


async def test_unused_pods_are_handed_over_warm(cluster: Cluster, images: Images, restricted: str):
    async with kube_pool(cluster, images, restricted, replica="former") as former:
        await full(former)
        before = (await owners(cluster, restricted)).keys()
    assert set((await owners(cluster, restricted)).values()) == {FREE}
    began = anyio.current_time()
    async with kube_pool(cluster, images, restricted, replica="next") as following:
        await full(following)
        print(f"warm after {anyio.current_time() - began:.2f} s from pods that were handed over")
        assert await owners(cluster, restricted) == dict.fromkeys(before, owner_of(following))
        for _ in range(2 * following.settings.size):
            assert (await ran(following, "print(1)"))[0].exit_code == 0


async def test_pods_of_a_killed_replica_are_deleted(cluster: Cluster, images: Images, restricted: str):
    async with kube_pool(cluster, images, restricted, replica="survivor") as survivor:
        await full(survivor)
        with another_replica(cluster, restricted) as doomed:
            await pods_are(cluster, restricted, 2 * survivor.settings.size)
            mine = {name for name, owner in (await owners(cluster, restricted)).items() if owner == owner_of(survivor)}
            doomed.send_signal(signal.SIGKILL)
            seconds = await pods_are(cluster, restricted, survivor.settings.size, 2 * BURIED_SECONDS)
        print(f"buried {seconds:.1f} s after its death")
        assert seconds < BURIED_SECONDS
        assert (await owners(cluster, restricted)).keys() == mine


async def test_nobody_is_taken_for_dead_after_an_outage(cluster: Cluster, images: Images, restricted: str):
    cluster.require_ours("stopping the API server")
    async with (
        kube_pool(cluster, images, restricted, replica="one") as one,
        kube_pool(cluster, images, restricted, replica="two") as two,
    ):
        await full(one)
        await full(two)
        before = await owners(cluster, restricted)
        async with without(cluster, "apiserver"):
            await anyio.sleep(OUTAGE_SECONDS)
        await anyio.sleep(BURIED_SECONDS)
        assert await owners(cluster, restricted) == before
        await full(one)
        await full(two)


async def test_start_that_was_cancelled_leaves_no_pod(
    cluster: Cluster, images: Images, restricted: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pool.kube.owners.STRAY_SECONDS", 3.0)
    async with kube_pool(cluster, images, restricted, settings={"size": 1}) as pool:
        await full(pool)
        for number in range(6):
            with anyio.move_on_after(0.02 * 2**number) as scope:
                name = f"cancelled-{number}"
                await pool.backend.create(name, on_lost=lambda: None, on_cut=lambda: None, limits=pool.limits)
            assert scope.cancelled_caught
        print(f"gone {await pods_are(cluster, restricted, 1):.2f} s later")
        await until(lambda: pool.snapshot().slots["ready"] == 1)
