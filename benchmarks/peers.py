"""What the service is held against: the same interpreter started bare for each program, in the same run."""

from __future__ import annotations

import subprocess
import time
from functools import cache
from pathlib import Path

from benchmarks.service import ROOT

PROGRAMS = ROOT / ".programs" / "bin" / "python"
"""With the libraries that programs may import. The benchmarks do not run on another environment."""

_VARIABLES = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1"}


@cache
def plain_python() -> str:
    """The interpreter that the programs' environment was made of, by its absolute path."""
    return _said(PROGRAMS, "import sys; print(sys._base_executable)")


@cache
def python_versions() -> dict[str, str]:
    say = "import platform, sys; print(platform.python_implementation(), sys.version.split()[0])"
    return {"programs": _said(PROGRAMS, say)}


def _said(python: Path, code: str) -> str:
    return subprocess.run([python, "-I", "-c", code], capture_output=True, check=True, text=True).stdout.strip()


def seconds_of(python: str, code: str, count: int) -> list[float]:
    """Run a program bare so often, one after the other: from the start of each until its output is here."""
    return [_seconds(python, code) for _ in range(count)]


def _seconds(python: str, code: str) -> float:
    began = time.perf_counter()
    subprocess.run([python, "-I", "-c", code], stdout=subprocess.PIPE, check=True, env=_VARIABLES)
    return time.perf_counter() - began
