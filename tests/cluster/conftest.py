"""For the tests of the cluster itself."""

from __future__ import annotations

from tests.cluster.fixtures import cluster, namespace

__all__ = ["cluster", "namespace"]
