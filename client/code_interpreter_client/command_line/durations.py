"""Times that a person names in seconds."""

from __future__ import annotations

import click

LONGEST_RUN_SECONDS = 24 * 3600


def seconds(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0.001 <= value <= LONGEST_RUN_SECONDS:
        raise click.BadParameter(f"{value:g} is not in the range 0.001 to {LONGEST_RUN_SECONDS} seconds.")
    return value


def whole_ms(value_seconds: float) -> int:
    return max(1, round(value_seconds * 1000))
