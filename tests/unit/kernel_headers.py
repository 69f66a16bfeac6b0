"""System call numbers as this machine's kernel headers give them, where they are installed."""

from __future__ import annotations

import re
from pathlib import Path

PLACES = {
    "x86_64": ("/usr/include/asm/unistd_64.h", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
DEFINITION = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
GENERIC_NAMES = {"fstatat": "newfstatat"}  # what 64-bit machines call it


def numbers(machine: str) -> dict[str, int]:
    """Empty where no header is installed."""
    for place in map(Path, PLACES[machine]):
        if place.is_file():
            found = DEFINITION.findall(place.read_text())
            return {GENERIC_NAMES.get(name, name): int(number) for name, number in found}
    return {}
