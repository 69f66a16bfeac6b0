"""Every Python of this machine that a sandbox might have."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

OLDEST = (3, 9)
PLACES = ["/usr/bin", "/usr/local/bin", "/opt/*/bin", str(Path.home() / ".pyenv/versions/*/bin")]


def candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for place in PLACES:
        root, _, pattern = place.partition("*")
        folders = Path(root).glob(f"*{pattern}") if pattern else [Path(root)]
        yield from (found for folder in folders for found in sorted(folder.glob("python3.[0-9]*")))
    yield from (Path(found) for minor in range(9, 16) if (found := shutil.which(f"python3.{minor}")))


@cache
def version(python: Path) -> tuple[int, ...]:
    """(0,) for what is no Python, or will not start."""
    asked = subprocess.run(
        [python, "-I", "-S", "-c", "import sys; print(*sys.version_info[:3])"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return tuple(map(int, asked.stdout.split())) if asked.returncode == 0 else (0,)


@cache
def pythons() -> dict[str, Path]:
    """One for each version, by its name as in `3.12.1`."""
    found = {version(path): path for path in candidates() if re.fullmatch(r"python(3\.\d+)?", path.name)}
    return {".".join(map(str, each)): found[each] for each in sorted(found) if each >= OLDEST}
