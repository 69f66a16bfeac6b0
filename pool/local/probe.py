"""Which protections this machine gives to sandboxes: found by trying each, in processes that end with the trial."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import msgspec

from pool.local import cgroups, protections
from pool.local.host_ids import FIRST_HOST_ID
from pool.local.protections import NEEDED, WANTED, Findings, Protection, level
from pool.local.remedies import Machine
from sandbox_runtime import wire

__all__ = ["Protection", "level", "libraries", "probe"]

_HERE = os.path.dirname(os.path.abspath(__file__))
_RUNTIME = os.path.dirname(os.path.dirname(os.path.abspath(wire.__file__)))
_TRIALS = "import sys; sys.path[:0] = sys.argv[1:3]; from launcher import trials; trials.main(int(sys.argv[3]))"

TRIALS_SECONDS = 60
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")

LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib", "openpyxl", "PIL")
_FIND = "import importlib.util as u, sys; print(*(n for n in sys.argv[1:] if u.find_spec(n) is None))"


def probe() -> list[Protection]:
    """Try everything; takes a tenth of a second. Nothing of it stays."""
    missing = cgroups.find().missing
    return protections.judge(try_out(), look(), missing, platform.release(), platform.machine())


def try_out(interpreter: tuple[str, ...] = (sys.executable,)) -> Findings:
    """Run the trials in a process of their own."""
    command = [*interpreter, "-I", "-S", "-c", _TRIALS, _RUNTIME, _HERE, str(FIRST_HOST_ID)]
    try:
        return msgspec.json.decode(_output(command), type=Findings)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        problem = f"the trials could not be run: {error}"
        return Findings(problems=dict.fromkeys((*NEEDED, *WANTED), problem), landlock_abi=0)


def _output(command: list[str]) -> bytes:
    return subprocess.run(  # noqa: S603  # our own interpreters and files
        command, capture_output=True, check=True, timeout=TRIALS_SECONDS, env={}, stdin=subprocess.DEVNULL
    ).stdout


def look() -> Machine:
    """What the machine says of itself, for the advice."""
    return Machine(
        is_root=os.geteuid() == 0,
        in_container=any(map(os.path.exists, CONTAINER_MARKS)),
        apparmor_restricts=_sysctl("kernel/apparmor_restrict_unprivileged_userns", 0) == 1,
        clone_forbidden=_sysctl("kernel/unprivileged_userns_clone", 1) == 0,
        most_user_namespaces=_sysctl("user/max_user_namespaces", 1),
    )


def _sysctl(name: str, otherwise: int) -> int:
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return otherwise


def libraries(python: str) -> Protection:
    """Whether the programs' environment has what clients promise to their model. No protection, but shown with them."""
    try:
        absent = _output([python, "-I", "-c", _FIND, *LIBRARIES]).decode().split()
    except (OSError, subprocess.SubprocessError):
        absent = list(LIBRARIES)
    remedy = f"`make environments` installs them (absent: {', '.join(absent)})"
    meaning = f"Programs can import {', '.join(LIBRARIES)}."
    return protections.protection("libraries for programs", not absent, False, meaning, remedy)
