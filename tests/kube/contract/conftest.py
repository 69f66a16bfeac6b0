"""What holds in pods alone."""

from __future__ import annotations

import pytest

from tests.cluster.harness import Cluster
from tests.images.building import Images
from tests.kube.support.fixtures import restricted
from tests.places import PODS, PodsOfACluster, pods_namespace

__all__ = ["pods", "pods_namespace", "restricted"]


@pytest.fixture(scope="session")
def pods(cluster: Cluster, images: Images, pods_namespace: str) -> PodsOfACluster:
    """Pools of pods that are used again."""
    return PodsOfACluster(PODS, cluster, images, pods_namespace)
