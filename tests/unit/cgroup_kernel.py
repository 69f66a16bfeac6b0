"""A kernel's cgroup folders in a temporary place: recorded trees, and the rules that v1 and v2 hold writers to."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from pool.local.cgroups import files

OURSELVES = str(os.getpid())
ANOTHER = "1"

# What a folder below the root has, by controller, as read on Linux 6.18 (v1) and 6.1 (v2).
# fmt: off
V1_FILES = {
    "memory": {"memory.limit_in_bytes": "9223372036854771712", "memory.swappiness": "60", "memory.stat": "total_rss 0",
               "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0", "memory.usage_in_bytes": "0",
               "cgroup.event_control": ""},
    "pids": {"pids.max": "max", "pids.current": "0", "pids.events": "max 0"},
    "cpu": {"cpu.shares": "1024", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
}
V2_FILES = {
    "memory": {"memory.max": "max", "memory.swap.max": "max", "memory.oom.group": "0", "memory.stat": "anon 0",
               "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0", "memory.current": "0"},
    "pids": {"pids.max": "max", "pids.current": "0", "pids.events": "max 0"},
    "cpu": {"cpu.weight": "100", "cpu.max": "max 100000"},
}
# fmt: on

HYBRID_MOUNTINFO = """\
24 1 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
31 23 0:28 / {root} rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / {root}/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / {root}/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 / {root}/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / {root}/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_CGROUP = "9:name=systemd:/\n8:pids:/\n4:memory:/process_api/4ddd92aa\n1:cpu,cpuacct:/\n0::/\n"

UNIFIED_MOUNTINFO = """\
24 1 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
30 23 0:26 / {root} rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
UNIFIED_CGROUP = "0::/system.slice/code-interpreter.service\n"


class Kernel:
    """Answers for `pool.local.cgroups.files`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refuses: dict[str, int] = {}
        """Names of files that cannot be written, with the error."""
        self.lacks: set[str] = set()
        """Names of files that this kernel does not have."""

    def install(self, monkeypatch) -> None:
        for name in ("write", "make", "remove"):
            monkeypatch.setattr(files, name, getattr(self, name))

    # --- v1

    def hierarchy(self, path: str, controller: str) -> Path:
        """A v1 hierarchy's folder."""
        folder = self.root / path
        folder.mkdir(parents=True)
        self._fill(folder, {**V1_FILES[controller], "cgroup.procs": "", "tasks": "", "kind": f"v1 {controller}"})
        return folder

    # --- v2

    def unified(self, controllers: str, path: str = "", procs: str = "") -> Path:
        """The v2 tree's root, or with `path` a cgroup in it."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        self._fill(folder, self._unified_files(controllers, is_root=not path))
        (folder / "cgroup.procs").write_text(procs)
        return folder

    def _unified_files(self, controllers: str, is_root: bool = False) -> dict[str, str]:
        own = {"cgroup.controllers": controllers, "cgroup.subtree_control": "", "cgroup.procs": "", "kind": "v2"}
        if is_root:
            return own
        limits = {file: text for name in controllers.split() for file, text in V2_FILES.get(name, {}).items()}
        return {**own, **limits, "cgroup.type": "domain"}

    def _fill(self, folder: Path, contents: dict[str, str]) -> None:
        for name, text in contents.items():
            if name not in self.lacks:
                (folder / name).write_text(text)

    # --- what the code under test calls

    def make(self, folder: str) -> None:
        place = Path(folder)
        place.mkdir()
        version, _, controller = (place.parent / "kind").read_text().partition(" ")
        if version == "v1":
            contents = {**V1_FILES[controller], "cgroup.procs": "", "tasks": "", "kind": f"v1 {controller}"}
        else:
            contents = self._unified_files((place.parent / "cgroup.subtree_control").read_text())
        self._fill(place, contents)

    def write(self, path: str, value: object) -> None:
        file = Path(path)
        if file.name in self.refuses:
            raise OSError(self.refuses[file.name], f"the kernel refuses {file.name}")
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, f"no {path}")
        if file.name == "cgroup.subtree_control":
            self._switch(file.parent, str(value).split())
        elif file.name == "cgroup.procs":
            self._move(file.parent, str(value))
        else:
            file.write_text(str(value))

    def _switch(self, folder: Path, changes: list[str]) -> None:
        is_root = not (folder / "cgroup.type").exists()
        if not is_root and (folder / "cgroup.procs").read_text() and any(change[0] == "+" for change in changes):
            raise OSError(errno.EBUSY, "processes beside folders")
        enabled = dict.fromkeys((folder / "cgroup.subtree_control").read_text().split())
        for change in changes:
            if change[1:] not in (folder / "cgroup.controllers").read_text().split():
                raise FileNotFoundError(errno.ENOENT, change)
            if change[0] == "+":
                enabled[change[1:]] = None
            else:
                enabled.pop(change[1:], None)
        (folder / "cgroup.subtree_control").write_text(" ".join(enabled))

    def _move(self, folder: Path, pid: str) -> None:
        is_root = not (folder / "cgroup.type").exists()
        if not is_root and (folder / "cgroup.subtree_control").read_text():
            raise OSError(errno.EBUSY, "controllers are on for folders here")
        for procs in self.root.rglob("cgroup.procs"):
            procs.write_text(" ".join(each for each in procs.read_text().split() if each != pid))
        (folder / "cgroup.procs").write_text(f"{(folder / 'cgroup.procs').read_text()} {pid}".strip())

    def remove(self, folder: str) -> bool:
        place = Path(folder)
        if not place.exists():
            return True
        if (place / "cgroup.procs").read_text() or any(each.is_dir() for each in place.iterdir()):
            return False
        shutil.rmtree(place)
        return True

    def snapshot(self) -> dict[str, str]:
        """Every file with its content."""
        return {str(path.relative_to(self.root)): path.read_text() for path in self.root.rglob("*") if path.is_file()}


def hybrid(kernel: Kernel) -> tuple[str, str]:
    """As on the machine where this was written: v1, and a v2 mount that has nothing we want."""
    kernel.hierarchy("memory/process_api/4ddd92aa", "memory")
    kernel.hierarchy("pids", "pids")
    kernel.hierarchy("cpu,cpuacct", "cpu")
    (kernel.root / "unified").mkdir()
    (kernel.root / "unified" / "cgroup.controllers").write_text("hugetlb\n")
    return HYBRID_MOUNTINFO.format(root=kernel.root), HYBRID_CGROUP


def unified(kernel: Kernel, controllers: str = "cpuset cpu io memory pids", procs: str = OURSELVES) -> tuple[str, str]:
    """As in a systemd service on Debian 12; delegated where only we are in the cgroup."""
    kernel.unified("cpuset cpu io memory pids")
    kernel.unified(controllers, "system.slice/code-interpreter.service", procs)
    return UNIFIED_MOUNTINFO.format(root=kernel.root), UNIFIED_CGROUP
