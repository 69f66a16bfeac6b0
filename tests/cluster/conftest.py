"""For the tests of the cluster itself."""

from __future__ import annotations

from tests.cluster.fixtures import namespace

__all__ = ["namespace"]
