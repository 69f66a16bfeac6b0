"""How measurements spread: nothing is trimmed, nothing is averaged away."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: a value that was measured, never one in between."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds, and how many values they stand for."""
    marks = {f"p{percent}_ms": percentile(seconds, percent) * 1000 for percent in (50, 90, 95, 99)}
    return {**marks, "max_ms": max(seconds) * 1000, "count": len(seconds)}
