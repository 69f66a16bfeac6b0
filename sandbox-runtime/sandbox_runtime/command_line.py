"""What /proc shows as this process's command line: the words that it was started with, until others are written there.

A forked process keeps those of its template. SECURITY: they name folders of the host, and a program can read those of
its sandbox's first processes (tests/hostile/test_secrets.py). What is left of their room are NUL bytes: moving
its end takes a right that we have given up.
"""

from __future__ import annotations

import ctypes
import os

_START, _END = 45, 46
"""Of the words in memory: fields 48 and 49 of /proc/self/stat (proc_pid_stat(5)), counted behind the program's name."""

_place = (0, 0)


def find() -> None:
    """To be called once, while /proc and this process's right to read it are there."""
    global _place
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    _place = int(fields[_START]), int(fields[_END])


def show(words: list[str]) -> None:
    """As many as there is room for; nothing happens before `find`."""
    start, end = _place
    text = b"\0".join(map(os.fsencode, words))[: max(0, end - start - 1)]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))
