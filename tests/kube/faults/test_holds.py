"""Pods that cannot be made: a hold that says why, to people too, and that goes with its cause."""

from __future__ import annotations

import json
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pool import SandboxPool, Snapshot
from pool.kube import manifest
from sandbox_runtime import wire
from tests.cluster.harness import Cluster
from tests.images import building
from tests.images.building import Images
from tests.kube.support.accounts import ANCHOR as CHART_ANCHOR
from tests.kube.support.accounts import chart_account
from tests.kube.support.pods import ANCHOR, full, kube_pool, kubectl, until

pytestmark = pytest.mark.slow

HELD_SECONDS = 30.0
RECOVERY_SECONDS = 40.0
"""The longest pause between two attempts is 30 s."""
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}


async def held(pool: SandboxPool, within_seconds: float = HELD_SECONDS) -> Snapshot:
    """Wait for a hold; returns what the pool says of itself."""
    await until(lambda: pool.snapshot().hold_reason, within_seconds)
    found = pool.snapshot()
    print(found.hold_text)
    return found


async def events(cluster: Cluster, namespace: str, anchor: str = ANCHOR) -> list[Any]:
    """Of the anchor, once there is one."""
    found: list[Any] = []
    with anyio.fail_after(10):
        while not found:
            selector = f"--field-selector=involvedObject.name={anchor}"
            found = json.loads(await kubectl(cluster, "get", "events", "-n", namespace, selector, "-o", "json"))[
                "items"
            ]
    return found


async def recovers(pool: SandboxPool) -> None:
    print(f"full {await full(pool, RECOVERY_SECONDS):.1f} s after the cause was gone")
    assert pool.snapshot().hold_reason is None


async def test_quota(cluster: Cluster, images: Images, restricted: str):
    await apply(cluster, restricted, QUOTA)
    async with kube_pool(cluster, images, restricted) as pool:
        found = await held(pool)
        assert found.hold_reason == "quota"
        assert "exceeded quota: none" in str(found.hold_text)
        (event,) = await events(cluster, restricted)
        assert (event["reason"], event["type"]) == ("NoSandboxQuota", "Warning")
        assert "exceeded quota" in event["message"]
        await kubectl(cluster, "delete", "resourcequota", "none", "-n", restricted)
        await recovers(pool)


async def test_image_that_is_missing(cluster: Cluster, images: Images, restricted: str):
    name = f"localhost/missing:{secrets.token_hex(4)}"
    async with kube_pool(cluster, images, restricted, config={"image": name}) as pool:
        found = await held(pool)
        assert found.hold_reason == "image"
        assert name in str(found.hold_text)
        await anyio.to_thread.run_sync(_load_as, cluster, images.executor, name)
        await recovers(pool)


async def test_pod_security(cluster: Cluster, images: Images, restricted: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(manifest, "_pod_security", lambda config: {})
    async with kube_pool(cluster, images, restricted) as pool:
        found = await held(pool)
        assert found.hold_reason == "pod_security"
        assert "runAsNonRoot" in str(found.hold_text)
        level = "pod-security.kubernetes.io/enforce=privileged"
        await kubectl(cluster, "label", "namespace", restricted, level, "--overwrite")
        await recovers(pool)


@pytest.mark.parametrize("verbs", [["get", "list", "watch", "delete", "patch"], ["create"]], ids=["create", "watch"])
async def test_rights_that_are_missing(
    cluster: Cluster, images: Images, restricted: str, tmp_path: Path, verbs: list[str]
):
    kubeconfig = await anyio.to_thread.run_sync(chart_account, cluster, restricted, tmp_path)
    (role,) = cluster.get("roles", "-n", restricted)["items"]
    name, rule = role["metadata"]["name"], role["rules"][0]
    assert rule["resources"] == ["pods"]
    await set_verbs(cluster, restricted, name, verbs)
    config = {"anchor": CHART_ANCHOR}
    async with kube_pool(cluster, images, restricted, kubeconfig=kubeconfig, config=config) as pool:
        found = await held(pool)
        assert found.hold_reason == "rbac"
        assert "cannot" in str(found.hold_text)
        (event,) = await events(cluster, restricted, CHART_ANCHOR)
        assert event["reason"] == "NoSandboxRbac"
        await set_verbs(cluster, restricted, name, rule["verbs"])
        await recovers(pool)


async def test_no_node_takes_them(cluster: Cluster, images: Images, restricted: str):
    (node,) = [each["metadata"]["name"] for each in cluster.get("nodes")["items"]]
    config = {"node_selector": {"tested-by": restricted}, "ready_timeout_seconds": 2.0}
    async with kube_pool(cluster, images, restricted, config=config) as pool:
        found = await held(pool)
        assert found.hold_reason == "unschedulable"
        assert "didn't match Pod's node affinity/selector" in str(found.hold_text)
        await kubectl(cluster, "label", "node", node, f"tested-by={restricted}")
        try:
            await recovers(pool)
        finally:
            await kubectl(cluster, "label", "node", node, "tested-by-")


@pytest.mark.parametrize(("version", "spoken"), [(1, (1,)), (7, (6, 7))], ids=["older", "newer"])
async def test_image_of_another_age(
    cluster: Cluster, images: Images, restricted: str, tmp_path: Path, version: int, spoken: tuple[int, ...]
):
    name = f"localhost/code-interpreter/executor:of-another-age-{version}"
    build = partial(_build_of_another_age, cluster, images.executor, name, tmp_path, version=version, spoken=spoken)
    await anyio.to_thread.run_sync(build)
    async with kube_pool(cluster, images, restricted, config={"image": name}) as pool:
        found = await held(pool)
        assert found.hold_reason == "protocol"
        (event,) = await events(cluster, restricted)
        assert event["reason"] == "NoSandboxProtocol"
        for word in (f"version {version}", str(wire.SPOKEN), "COPY --from=", "/opt/code-interpreter/prepare.py"):
            assert word in event["message"]


async def apply(cluster: Cluster, namespace: str, wanted: dict[str, Any]) -> None:
    metadata = {**wanted["metadata"], "namespace": namespace}
    await anyio.to_thread.run_sync(cluster.apply, {**wanted, "metadata": metadata})


async def set_verbs(cluster: Cluster, namespace: str, role: str, verbs: list[str]) -> None:
    patch = json.dumps([{"op": "replace", "path": "/rules/0/verbs", "value": verbs}])
    await kubectl(cluster, "patch", "role", role, "-n", namespace, "--type=json", "-p", patch)


def _load_as(cluster: Cluster, executor: str, name: str) -> None:
    with building.alone():
        building.run(["buildah", "tag", executor, name])
        with building.archive_of(name) as archive:
            cluster.load_image(archive)
        building.run(["buildah", "rmi", name])


def _build_of_another_age(
    cluster: Cluster, executor: str, name: str, folder: Path, *, version: int, spoken: tuple[int, ...]
) -> None:
    wire, prepare = "/opt/code-interpreter/sandbox_runtime/wire.py", "/opt/code-interpreter/prepare.py"
    change = f"sed -i -e 's/^PROTOCOL = .*/PROTOCOL = {version}/' -e 's/^SPOKEN = .*/SPOKEN = {spoken}/' {wire}"
    building.build_from(
        f"FROM {executor}\nUSER root\nRUN {change} && python3 {prepare}\nUSER 65532:65532\n", name, folder
    )
    building.load(cluster, name)
