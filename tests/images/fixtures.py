"""Both images, built from this tree and loaded into the cluster."""

from __future__ import annotations

import pytest

from tests.cluster.harness import Cluster
from tests.images.building import Images, built_and_loaded

__all__ = ["images"]


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """`.service` and `.executor` are names for pods, with `imagePullPolicy: IfNotPresent`.

    The first build takes a minute; one of the same files, seconds.
    """
    cluster.require_ours("images without a registry")
    return built_and_loaded(cluster)
