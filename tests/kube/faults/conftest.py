"""For what goes wrong around pods."""

from __future__ import annotations

from tests.kube.support.fixtures import restricted

__all__ = ["restricted"]
