"""For a conftest: `from tests.kube.support.fixtures import restricted`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness import Cluster
from tests.kube.support.pods import restricted_namespace

__all__ = ["restricted"]


@pytest.fixture
def restricted(cluster: Cluster) -> Iterator[str]:
    """A namespace that enforces Pod Security `restricted`, of this test alone."""
    with restricted_namespace(cluster) as name:
        yield name
