"""A program that leaves times wherever it can, outside of its own places, and looks for those that another has left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

PROGRAM = r"""
import json, os, sys, time
def paths():
    for top in ("/dev", "/proc"):
        for folder, folders, files in os.walk(top):
            if folder == "/proc":  # our own process goes with its files
                folders.remove(str(os.getpid()))
            yield from (os.path.join(folder, name) for name in folders + files if not folder.startswith("/dev/shm"))
def times(path):
    state = os.lstat(path)
    return state.st_atime_ns, state.st_mtime_ns
def tells(path):
    try:
        return any(low <= time <= high or time == 6 for time in times(path))
    except OSError:
        return False
def touch(path):
    done = 0
    for how in ({}, {"ns": (6, 6)}):
        try:
            os.utime(path, follow_symlinks=False, **how)
            done = 1
        except OSError:
            pass
    return done
box = os.stat("/proc").st_dev
low, high = json.loads(sys.argv[1]).get(str(box), (1, 0))
found = [path for path in paths() if tells(path)]
begun = time.time_ns()
touched = sum(map(touch, [*paths()]))
time.sleep(0.02)  # the kernel's clock is coarse
os.write(1, json.dumps([box, begun, time.time_ns(), touched, found]).encode())
os._exit(0)
"""
"""Says where it finds a time of the span in which the last program here did the same, then sets all that it can."""

FEWEST = 10
"""Files and folders whose times a program can set: else it has looked in the wrong places."""


def searched(found: Callable[..., Any], runs: int) -> list[str]:
    """What so many programs have found. `found` runs one and reads its answer."""
    spans: dict[int, list[int]] = {}
    residues: list[str] = []
    for _ in range(runs):
        box, *span, touched, seen = found(PROGRAM, json.dumps(spans))
        assert touched > FEWEST
        residues += seen
        spans[box] = span
    return residues
