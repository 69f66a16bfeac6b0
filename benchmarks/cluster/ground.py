"""Where it is measured: the test cluster, with the image of this tree and a namespace for the pods of one run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest

from benchmarks.service import Service, service
from pool.kube import ExecutorConfig, manifest
from pool.kube.config import EgressCheck, Resources
from pool.settings import RunLimits
from tests.cluster.harness import VARIABLE, Cluster, cluster_or_skip
from tests.images.building import built_and_loaded

ANCHOR = "anchor"
POOL = "measured"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}

# 16 pods on their way out beside 16 new ones must fit a machine of two cores and 24 GB: what counts is what they ask
# the scheduler for, and by default that is 742 MiB each. What they use does not change.
SMALL_FILES: dict[str, Any] = {"BROKER_WORKSPACE_MB": 16, "BROKER_TMP_MB": 16}
CPU_REQUEST = "10m"

REUSED: dict[str, Any] = {"BROKER_MAX_RUNS_PER_SANDBOX": 1000, "BROKER_REUSE_SCOPE": "any"}


class Ground(msgspec.Struct, frozen=True):
    cluster: Cluster
    namespace: str
    image: str

    @property
    def kubeconfig(self) -> str:
        return str(self.cluster.kubeconfig)

    def config(self, pool: str = POOL) -> ExecutorConfig:
        """As the chart would write it. The cluster enforces no network policy, so nothing is proved of the network."""
        return ExecutorConfig(
            namespace=self.namespace,
            image=self.image,
            pool=pool,
            anchor=ANCHOR,
            egress_check=EgressCheck(mode="off"),
            resources=Resources(requests={"cpu": CPU_REQUEST}, limits={"cpu": "5"}),
        )

    @asynccontextmanager
    async def service(self, *, connections: int = 4, **settings: object) -> AsyncIterator[Service]:
        """One on this machine, with its pods in the cluster; its pool is full."""
        with tempfile.NamedTemporaryFile(prefix="executor-", suffix=".json") as file:
            file.write(msgspec.json.encode(self.config()))
            file.flush()
            given = {
                "EXECUTOR_BACKEND": "kubernetes",
                "BROKER_EXECUTOR_FILE": file.name,
                "BROKER_KUBECONFIG": self.kubeconfig,
                "BROKER_POD_NAME": "bench",
                **settings,
            }
            async with service(connections=connections, **given) as running:
                yield running

    def about(self) -> dict[str, object]:
        """For the result file."""
        node: dict[str, Any] = self.cluster.get("nodes")["items"][0]["status"]["nodeInfo"]
        return {
            "kubelet": node["kubeletVersion"],
            "runtime": node["containerRuntimeVersion"],
            "image": self.image,
            "executor": msgspec.to_builtins(self.config()),
            "pod_memory_mib": manifest.memory_mib(RunLimits()),
        }


@contextmanager
def ground(image: str | None = None) -> Iterator[Ground]:
    """The cluster is started if need be, and ended then; an image is built if none is named."""
    os.environ.setdefault(VARIABLE, "build")
    try:
        cluster = cluster_or_skip()
        cluster.require_ours("an image without a registry")
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise SystemExit(str(error)) from None
    try:
        with on(cluster, image or built_and_loaded(cluster).executor) as found:
            yield found
    finally:
        cluster.close()


@contextmanager
def on(cluster: Cluster, image: str) -> Iterator[Ground]:
    with cluster.namespace(RESTRICTED) as namespace:
        metadata = {"name": ANCHOR, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        yield Ground(cluster, namespace, image)
