"""For the tests of the chart: the cluster, for those that ask a real API server."""

from __future__ import annotations

from tests.cluster.fixtures import cluster

__all__ = ["cluster"]
