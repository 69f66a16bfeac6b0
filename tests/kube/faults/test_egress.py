"""No pod is warm before it has shown that it reaches nothing. What it tries to reach are listeners of these tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import anyio
import anyio.to_thread
import pytest

from pool import Target
from tests.cluster.harness import Cluster, Manifest
from tests.images.building import Images
from tests.kube.support.pods import full, kube_pool, ran, until

pytestmark = pytest.mark.slow

HOST = "10.99.0.1"
HELD_SECONDS = 45.0
LATE_SECONDS = 4.0


@pytest.fixture
def listener() -> Iterator[Target]:
    """Outside of the cluster, where pods reach it unless something holds them."""
    with socket.create_server((HOST, 0)) as listening:
        yield ("tcp", HOST, listening.getsockname()[1])


def deny_all(namespace: str) -> Manifest:
    """The chart's policy."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny-all", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


async def test_no_pod_is_warm_while_policy_is_ignored(
    cluster: Cluster, images: Images, restricted: str, listener: Target
):
    cluster.require_ours("a cluster that ignores policy")
    await anyio.to_thread.run_sync(cluster.apply, deny_all(restricted))
    async with kube_pool(cluster, images, restricted, egress=[listener]) as pool:
        await until(lambda: pool.snapshot().hold_reason, HELD_SECONDS)
        found = pool.snapshot()
        print(found.hold_text)
        assert found.hold_reason == "egress"
        assert f"programs could reach tcp {HOST}:{listener[2]}" in str(found.hold_text)
        assert not found.has_been_warm


async def test_pods_are_warm_once_policy_holds_them(
    cluster: Cluster, images: Images, restricted: str, listener: Target
):
    cluster.require_ours("an enforcer of policy")
    await anyio.to_thread.run_sync(cluster.apply, deny_all(restricted))
    async with kube_pool(cluster, images, restricted, egress=[listener]) as pool:
        await anyio.sleep(LATE_SECONDS)
        assert not pool.snapshot().has_been_warm
        await anyio.to_thread.run_sync(cluster.start, "enforcer")
        try:
            print(f"warm {await full(pool):.2f} s after policy was enforced")
            assert pool.backend.isolation().network == "egress_proved"
            assert (await ran(pool, "print(1)"))[0].exit_code == 0
        finally:
            await anyio.to_thread.run_sync(cluster.stop, "enforcer")
