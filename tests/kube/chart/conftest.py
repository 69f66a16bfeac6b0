"""For tests of an installed release: a cluster whose network policies hold, and both images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness import Cluster
from tests.images.building import Images
from tests.kube.chart.release import Release, installed


@pytest.fixture(scope="module")
def enforcer(cluster: Cluster) -> Iterator[None]:
    cluster.require_ours("a network policy that is known to be enforced")
    with cluster.started("enforcer"):
        yield


@pytest.fixture(scope="module")
def release(cluster: Cluster, images: Images, enforcer: None) -> Iterator[Release]:
    with installed(cluster, images) as release:
        yield release
