"""Results: a table to read, and a file to keep."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import machine
from benchmarks.rows import Row

FOLDER = Path(__file__).resolve().parent / "results"
HEAD = ("what", "measured", "bar", "aim", "met")


def table(rows: Sequence[Row]) -> str:
    lines = [HEAD, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(_line(line, widths) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    sign = "≥ " if row.more_is_better else "≤ "
    marks = ["" if mark is None else sign + _number(mark) for mark in (row.bar, row.aim)]
    return (row.what, f"{_number(row.value)} {row.unit}".strip(), *marks, row.met)


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *others]).rstrip()


def save(rows: Sequence[Row], about: dict[str, object], seconds: float) -> Path:
    """Write the file of this run; the name says when and on what."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}-{machine.kind()}.json"
    body = {
        "machine": about,
        "seconds": seconds,
        "rows": [{**msgspec.to_builtins(row), "met": row.met} for row in rows],
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")
    return path
