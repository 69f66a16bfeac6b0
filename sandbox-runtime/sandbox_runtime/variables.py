"""The environment variables of a program, all of them."""

from __future__ import annotations

import os

from sandbox_runtime import places


def of_programs(python: str) -> dict[str, str]:
    """`python` is the interpreter that runs them; its folder is the first of PATH."""
    return {
        "PATH": f"{os.path.dirname(python)}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108  # the sandbox's own; in the workspace a library's cache would be returned as a file
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": places.MATPLOTLIB_FOLDER,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
