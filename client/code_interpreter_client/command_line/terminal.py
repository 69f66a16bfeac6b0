"""What reaches a person's screen.

SECURITY: names, messages and output come from programs that nobody trusts. A control character among them could move
the cursor over what was said before, set the clipboard or the window's title (tests/unit/test_command_line.py).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from code_interpreter_client.values import Json

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""All but tab, line feed and carriage return."""


def printable(text: str) -> str:
    """One line of text in which every character shows as itself or as an escape, marks of direction too."""
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def without_controls(text: str) -> str:
    """Lines of output, colours and all other control sequences shown as escapes."""
    return _CONTROLS.sub(lambda found: _escaped(found[0]), text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def as_json(value: Json | list[Json]) -> str:
    """ASCII, with escapes for the rest: safe on a screen, whatever is in it."""
    return json.dumps(value, indent=2)


def show(stream: Literal["stdout", "stderr"], text: str, *, raw: bool) -> None:
    """A program's output to ours, at once: untouched into a file or a pipe, and on a terminal where `raw` asks for it.

    Raises `OSError`; `BrokenPipeError` when whoever read it has gone.
    """
    target = sys.stdout if stream == "stdout" else sys.stderr
    shown = text if raw or not target.isatty() else without_controls(text)
    target.buffer.write(shown.encode("utf-8", "replace"))
    target.flush()


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Columns; their heads on a terminal only, as pipes count and cut lines."""
    shown = [tuple(printable(cell) for cell in row) for row in rows]
    if sys.stdout.isatty():
        shown.insert(0, heads)
    widths = [max((len(row[column]) for row in shown), default=0) for column in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)


def moment(seconds: float | None) -> str:
    """Local time, of seconds since 1970."""
    try:
        return "-" if seconds is None else f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return "-"  # no year has it
