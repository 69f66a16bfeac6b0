"""For the tests of the images."""

from __future__ import annotations

from tests.cluster.fixtures import cluster
from tests.images.fixtures import images

__all__ = ["cluster", "images"]
