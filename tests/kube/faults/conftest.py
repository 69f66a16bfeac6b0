"""For what goes wrong around pods."""

from __future__ import annotations

from tests.kube.support.fixtures import cluster, images, restricted

__all__ = ["cluster", "images", "restricted"]
