"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks import peers, processes
from benchmarks.load import SEED
from benchmarks.service import ROOT
from broker.settings import Settings


def block() -> dict[str, object]:
    """Taken before the first load."""
    return {
        "cores": processes.cores(),
        "cpu": _cpu_model(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // processes.MIB,
        "kernel": platform.release(),
        "autogroup": _read("/proc/sys/kernel/sched_autogroup_enabled") == "1",
        "pythons": {"service": platform.python_version(), **peers.python_versions()},
        "uid": os.geteuid(),
        "commit": _commit(),
        "seed": SEED,
        "settings": msgspec.to_builtins(Settings(), enc_hook=str),
        "load_average_before": os.getloadavg(),
        "argv": sys.argv[1:],
    }


def kind() -> str:
    """For the name of a result file."""
    return re.sub(r"[^a-z0-9]+", "-", f"{processes.cores()} core {_cpu_model()}".lower()).strip("-")


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _commit() -> str:
    return _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*words: str) -> str:
    ran = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    return ran.stdout.strip()
