"""Makes way for the program's own modules: `import json` finds /workspace/json.py, whatever the zygote has loaded."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder


def make_way(folder: str, kept: frozenset[str]) -> None:
    """Forget the loaded modules that have a namesake in the folder, which comes first on `sys.path`.

    `kept` are those that every Python has loaded before its first line: they cannot be replaced so. What was
    loaded with a forgotten module keeps it (pandas its json), where a fresh start might have failed.
    """
    names = {name.partition(".")[0] for name in os.listdir(folder)} - kept
    for name in names & sys.modules.keys():
        if _can_be_imported(name, folder):
            _forget(name)


def _can_be_imported(name: str, folder: str) -> bool:
    # Built-in modules come before any folder, and a folder without __init__.py after all others.
    spec = PathFinder.find_spec(name, [folder])
    return spec is not None and spec.has_location and name not in sys.builtin_module_names


def _forget(name: str) -> None:
    for loaded in [*sys.modules]:
        if loaded == name or loaded.startswith(name + "."):
            del sys.modules[loaded]
