"""The settings as Markdown, from the code: a test compares the README's block with this one.

`python -m broker.settings_table README.md` writes it anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from broker.settings import FIELDS, VARIABLES

START, END = "<!-- settings -->", "<!-- /settings -->"


def markdown() -> str:
    """What stands between the two markers."""
    rows = [f"| `{variable}` | {_default(name)} | {_description(name)} |" for variable, name in VARIABLES.items()]
    return "\n".join(["| Variable | Default | Meaning |", "|---|---|---|", *rows])


def _default(name: str) -> str:
    value = FIELDS[name].default
    if value is None or value == ():
        return "unset"
    if name == "file_storage_dir":
        # The one default that differs from machine to machine.
        return "`/tmp/code-interpreter-files-<uid>`"
    return f"`{_spelled(value)}`"


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _description(name: str) -> str:
    info = msgspec.inspect.type_info(FIELDS[name].type)
    schema = info.extra_json_schema if isinstance(info, msgspec.inspect.Metadata) else None
    return str((schema or {})["description"])


def between_markers(readme: str) -> str:
    """The block that stands in a README now; empty when it has no markers."""
    return readme.partition(START)[2].partition(END)[0].strip()


def with_table(readme: str) -> str:
    """The README with its block written anew."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    return f"{before}{start}\n{markdown()}\n{end}{after}" if start and end else readme


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_table(Path(name).read_text()))
