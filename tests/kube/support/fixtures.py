"""For a conftest: `from tests.kube.support.fixtures import cluster, images, restricted`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.fixtures import cluster
from tests.cluster.harness import Cluster
from tests.images.fixtures import images
from tests.kube.support.pods import restricted_namespace

__all__ = ["cluster", "images", "restricted"]


@pytest.fixture
def restricted(cluster: Cluster) -> Iterator[str]:
    """A namespace that enforces Pod Security `restricted`, of this test alone."""
    with restricted_namespace(cluster) as name:
        yield name
