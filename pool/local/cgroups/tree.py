"""Where this process's cgroups are: from two texts of the kernel, and the folders that they name.

v1 has a hierarchy for each controller, v2 one for all, and a machine may mix them. A cgroup2 mount
counts only for what its `cgroup.controllers` lists: on mixed machines that is often nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

CONTROLLERS = ("memory", "pids", "cpu")
"""What we want, in the order in which a sandbox enters."""


class Hierarchy(msgspec.Struct, frozen=True, kw_only=True):
    """One mounted tree of cgroups, as far as we may make folders in it."""

    version: int
    folder: str
    """This process's own cgroup."""
    controllers: tuple[str, ...]


class _Mount(msgspec.Struct, frozen=True, kw_only=True):
    root: str
    """Which cgroup lies at `point`: a container often sees only its own."""
    point: str
    kind: str
    options: frozenset[str]


def usable(mountinfo: str, own: str) -> tuple[Hierarchy, ...]:
    """What there is to use, by the texts of /proc/self/mountinfo and /proc/self/cgroup; a controller comes once."""
    left = list(CONTROLLERS)
    found = []
    for hierarchy in _hierarchies(mountinfo, _own_paths(own)):
        fresh = tuple(name for name in left if name in hierarchy.controllers)
        if fresh and _may_make_folders(hierarchy):
            found.append(msgspec.structs.replace(hierarchy, controllers=fresh))
            left = [name for name in left if name not in fresh]
    return tuple(sorted(found, key=lambda hierarchy: CONTROLLERS.index(hierarchy.controllers[0])))


def is_real_root(folder: str) -> bool:
    """Whether this is the root of the v2 tree, in which processes may live beside folders (a namespace's is not)."""
    return not os.path.exists(f"{folder}/cgroup.type")


def _hierarchies(mountinfo: str, paths: dict[str, str]) -> Iterator[Hierarchy]:
    for mount in map(_mount, mountinfo.splitlines()):
        if mount is None:
            continue
        names = sorted(mount.options.intersection(CONTROLLERS)) if mount.kind == "cgroup" else [""]
        folder = _within(mount, paths.get(names[0] if names else "-"))
        if folder is not None:
            controllers = names if mount.kind == "cgroup" else _listed(folder)
            yield Hierarchy(version=1 if mount.kind == "cgroup" else 2, folder=folder, controllers=tuple(controllers))


def _mount(line: str) -> _Mount | None:
    head, _, tail = line.partition(" - ")
    fields, kind, options = head.split(), *tail.split()[::2]
    if kind not in ("cgroup", "cgroup2"):
        return None
    return _Mount(root=_plain(fields[3]), point=_plain(fields[4]), kind=kind, options=frozenset(options.split(",")))


def _plain(escaped: str) -> str:
    """A path with a space in it is written with \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), escaped)


def _own_paths(own: str) -> dict[str, str]:
    """The path of this process's cgroup by controller; "" is the v2 tree."""
    lines = [line.split(":", 2) for line in own.splitlines()]
    return {name: path for _, names, path in lines for name in names.split(",")}


def _within(mount: _Mount, path: str | None) -> str | None:
    """The folder of the cgroup `path`, where the mount shows it."""
    root = mount.root.rstrip("/")
    # ".." stands for a cgroup above the root of our cgroup namespace: no mount of ours shows it.
    if path is None or "/.." in path or not f"{path.rstrip('/')}/".startswith(f"{root}/"):
        return None
    return mount.point + path.rstrip("/")[len(root) :]


def _listed(folder: str) -> list[str]:
    try:
        return Path(folder, "cgroup.controllers").read_text().split()
    except OSError:
        return []


def _may_make_folders(hierarchy: Hierarchy) -> bool:
    folder = hierarchy.folder
    if hierarchy.version == 1:
        return _writable(folder)
    files = (f"{folder}/cgroup.procs", f"{folder}/cgroup.subtree_control")
    return all(map(_writable, (folder, *files))) and (is_real_root(folder) or _is_ours_alone(files[0]))


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK)


def _is_ours_alone(procs: str) -> bool:
    """v2 allows no processes beside folders with controllers. We move ourselves; others are not ours to move."""
    return Path(procs).read_text().split() == [str(os.getpid())]
