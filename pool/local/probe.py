"""Which protections this machine gives to sandboxes: found by trying each, in processes that end with the trial."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import msgspec

from pool.backend import Isolation
from pool.local import cgroups, remedies
from pool.local.remedies import Machine

_HERE = os.path.dirname(os.path.abspath(__file__))
_TRIALS = os.path.join(_HERE, "launcher", "trials.py")
_RUNTIME = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "sandbox-runtime")

TRIALS_SECONDS = 60
HOST_ID = 0x70000000
"""A uid like those that sandboxes get from root; see `backend.py`."""

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_KERNEL = (5, 8)
"""The first in which a process can join the namespaces of another by its pidfd."""
LANDLOCK_WITH_SCOPES = 6

CGROUPS = ("memory cgroup", "pids cgroup", "cpu cgroup")


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """One layer around a program."""

    name: str
    present: bool
    needed: bool
    """Without it there is no isolation worth the name, and `serve` refuses."""
    meaning: str
    remedy: str
    """How to get it; "" where it is there."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the trials said."""

    problems: dict[str, str]
    """By the name of the protection; "" where there is none."""
    landlock_abi: int


_NEEDED = {
    "user namespace": "No right of a program means anything outside of it.",
    "mount namespace": "Programs see their own files and a read-only system, not this machine's.",
    "PID namespace": "Programs see and signal their own processes only, and all of them end together.",
    "network namespace": "No interface: a program reaches no network, not even this machine.",
    "IPC namespace": "Shared memory and message queues of others cannot be reached.",
    "mounts": "A sandbox has a /proc and a size-limited workspace, /tmp and /dev/shm of its own.",
    "seccomp filter": "Calls into the kernel that serve only attacks are refused.",
    "no_new_privs": "Setuid programs give no rights.",
}
_WANTED = {
    "UTS namespace": "Programs do not learn the name of this machine.",
    "cgroup namespace": "Programs do not learn the cgroup paths of this machine.",
    "Landlock": "A second wall around files, signals and sockets, should the first have a hole.",
}
_CGROUPS = {
    "memory cgroup": "The kernel caps memory; without it a watch reads /proc, which sees bombs a little later.",
    "pids cgroup": "The kernel caps processes; without it only the limit for each uid holds.",
    "cpu cgroup": "A program gets one core at most, and the service goes before; without it a program may slow all.",
}
_OPTIONS = {
    "mount namespace": "CONFIG_NAMESPACES",
    "PID namespace": "CONFIG_PID_NS",
    "network namespace": "CONFIG_NET_NS",
    "IPC namespace": "CONFIG_IPC_NS",
    "UTS namespace": "CONFIG_UTS_NS",
    "cgroup namespace": "CONFIG_CGROUPS",
}


def probe() -> list[Protection]:
    """Try everything; takes a tenth of a second. Nothing of it stays."""
    return judge(try_out(), look(), cgroups.find().missing, platform.release(), platform.machine())


def level(protections: list[Protection]) -> Isolation:
    """`none` where something needed is missing, `reduced` where something else is."""
    missing = tuple(each.name for each in protections if not each.present)
    lacks_needed = any(each.needed and not each.present for each in protections)
    return Isolation(level="none" if lacks_needed else "reduced" if missing else "full", missing=missing)


def try_out() -> Findings:
    """Run the trials in a process of their own."""
    command = [sys.executable, "-I", "-S", _TRIALS, _RUNTIME, str(HOST_ID)]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and files
            command, capture_output=True, check=True, timeout=TRIALS_SECONDS, env={}, stdin=subprocess.DEVNULL
        )
        return msgspec.json.decode(done.stdout, type=Findings)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        problem = f"the trials could not be run: {error}"
        return Findings(problems={name: problem for name in (*_NEEDED, *_WANTED)}, landlock_abi=0)


def look() -> Machine:
    """What the machine says of itself, for the advice."""
    marks = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")
    return Machine(
        is_root=os.geteuid() == 0,
        in_container=any(map(os.path.exists, marks)),
        apparmor_restricts=_sysctl("kernel/apparmor_restrict_unprivileged_userns", 0) == 1,
        clone_forbidden=_sysctl("kernel/unprivileged_userns_clone", 1) == 0,
        most_user_namespaces=_sysctl("user/max_user_namespaces", 1),
    )


def _sysctl(name: str, otherwise: int) -> int:
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return otherwise


def judge(
    findings: Findings, machine: Machine, missing_cgroups: tuple[str, ...], release: str, architecture: str
) -> list[Protection]:
    """Findings as protections. Pure."""
    meanings = {**_NEEDED, **_WANTED, "Landlock": _landlock_meaning(findings)}
    return [
        _kernel(release),
        _architecture(architecture),
        *(
            _tried(name, meaning, findings, _remedy(name, machine, findings, architecture))
            for name, meaning in meanings.items()
        ),
        *(_cgroup(name, meaning, missing_cgroups, machine) for name, meaning in _CGROUPS.items()),
    ]


def _kernel(release: str) -> Protection:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    present = numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST_KERNEL
    meaning = f"Linux {release}; what sandboxes are made with needs 5.8."
    return _protection("kernel", present, True, meaning, remedies.KERNEL)


def _architecture(architecture: str) -> Protection:
    present = architecture in ARCHITECTURES
    meaning = f"{architecture}; the numbers of the system calls are known for {' and '.join(ARCHITECTURES)}."
    return _protection("architecture", present, True, meaning, "another machine, or the Kubernetes backend")


def _landlock_meaning(findings: Findings) -> str:
    lacks_scopes = 0 < findings.landlock_abi < LANDLOCK_WITH_SCOPES
    rest = (
        f" ABI {findings.landlock_abi} does not cover signals and abstract sockets (Linux 6.12)."
        if lacks_scopes
        else ""
    )
    return _WANTED["Landlock"] + rest


def _tried(name: str, meaning: str, findings: Findings, remedy: str) -> Protection:
    problem = findings.problems.get(name, "it was not tried")
    return _protection(name, not problem, name in _NEEDED, meaning, f"{remedy} ({problem})")


def _remedy(name: str, machine: Machine, findings: Findings, architecture: str) -> str:
    if name == "user namespace":
        return remedies.for_user_namespace(machine)
    if name in _OPTIONS:
        return remedies.for_namespace(machine, _OPTIONS[name])
    if name == "mounts":
        return remedies.for_mounts(machine)
    if name == "Landlock":
        return remedies.for_landlock(findings.landlock_abi)
    return remedies.for_seccomp(architecture in ARCHITECTURES)


def _cgroup(name: str, meaning: str, missing: tuple[str, ...], machine: Machine) -> Protection:
    return _protection(name, name not in missing, False, meaning, remedies.for_cgroup(machine))


def _protection(name: str, present: bool, needed: bool, meaning: str, remedy: str) -> Protection:
    return Protection(name=name, present=present, needed=needed, meaning=meaning, remedy="" if present else remedy)
