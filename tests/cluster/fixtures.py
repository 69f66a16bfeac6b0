"""The cluster as fixtures: `tests/conftest.py` takes `cluster`, so that all folders share one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness import Cluster, cluster_or_skip

__all__ = ["cluster", "namespace"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The session's cluster. One that was up before the session stays up; one that the session started goes with it."""
    found = cluster_or_skip()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace() as name:
        yield name
