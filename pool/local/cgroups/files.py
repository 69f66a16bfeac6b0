"""The things that are ever done to the kernel's cgroup folders. Tests put a kernel of their own here."""

from __future__ import annotations

import os

LONGEST_BYTES = 64 * 1024
"""Of what is read: a list of processes is the longest."""


def read(path: str) -> bytes:
    """Not by `pathlib`: it interns each part of a path, and what a thousand sandboxes leave in that table is never
    given back."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, LONGEST_BYTES)
    finally:
        os.close(descriptor)


def write(path: str, value: object) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def make(folder: str) -> None:
    os.mkdir(folder)


def remove(folder: str) -> bool:
    """Remove one cgroup; False while the kernel still has processes, or other cgroups, in it."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
