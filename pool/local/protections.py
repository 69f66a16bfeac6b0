"""What stands around a program on this machine, what each layer is for, and which are missing. Pure."""

from __future__ import annotations

import re

import msgspec

from pool.backend import Isolation
from pool.local import remedies
from pool.local.remedies import Machine


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


ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_KERNEL = (5, 8)
"""The first in which a process can join the namespaces of another by its pidfd."""
LANDLOCK_WITH_SCOPES = 6

NEEDED = {
    "user namespace": "No right of a program means anything outside of it.",
    "mount namespace": "Programs see their own files and a read-only system, not this machine's.",
    "PID namespace": "Programs see and signal their own processes only, and all of them end together.",
    "network namespace": "No interface: a program reaches no network, not even this machine.",
    "IPC namespace": "Shared memory and message queues of others cannot be reached.",
    "mounts": "A sandbox has a /proc and a size-limited workspace, /tmp and /dev/shm of its own.",
    "seccomp filter": "Calls into the kernel that serve only attacks are refused.",
    "no_new_privs": "Setuid programs give no rights.",
}
WANTED = {
    "UTS namespace": "Programs do not learn the name of this machine.",
    "cgroup namespace": "Programs do not learn the cgroup paths of this machine.",
    "Landlock": "A second wall around files, signals and sockets, should the first have a hole.",
}
CGROUPS = {
    "memory cgroup": "The kernel caps memory; without it a watch reads /proc, and sees what programs use, not all"
    " that a hostile one can hold (unmapped memfds, page tables, pipes): that one can use up this machine's.",
    "pids cgroup": "The kernel caps processes; without it only its limit for each uid holds.",
    "cpu cgroup": "A program gets one core at most, and the service goes first; without it programs may slow all.",
}
_OPTIONS = {
    "mount namespace": "CONFIG_NAMESPACES",
    "PID namespace": "CONFIG_PID_NS",
    "network namespace": "CONFIG_NET_NS",
    "IPC namespace": "CONFIG_IPC_NS",
    "UTS namespace": "CONFIG_UTS_NS",
    "cgroup namespace": "CONFIG_CGROUPS",
}


def judge(
    findings: Findings, machine: Machine, missing_cgroups: tuple[str, ...], release: str, architecture: str
) -> list[Protection]:
    """What was found, as a list for people."""
    tried = [_tried(name, findings, machine, architecture) for name in (*NEEDED, *WANTED)]
    cgroups = [_cgroup(name, missing_cgroups, machine) for name in CGROUPS]
    return [_kernel(release), _architecture(architecture), *tried, *cgroups]


def level(protections: list[Protection]) -> Isolation:
    """`none` where something needed is missing, `reduced` where something else is."""
    missing = tuple(each.name for each in protections if not each.present)
    lacks_needed = any(each.needed and not each.present for each in protections)
    return Isolation(level="none" if lacks_needed else "reduced" if missing else "full", missing=missing)


def protection(name: str, present: bool, needed: bool, meaning: str, remedy: str) -> Protection:
    return Protection(name=name, present=present, needed=needed, meaning=meaning, remedy="" if present else remedy)


def _kernel(release: str) -> Protection:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    present = numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST_KERNEL
    return protection(
        "kernel", present, True, f"Linux {release}; sandboxes are made with calls of 5.8.", remedies.KERNEL
    )


def _architecture(name: str) -> Protection:
    meaning = f"{name}; the filter knows the system calls of {' and '.join(ARCHITECTURES)}."
    return protection("architecture", name in ARCHITECTURES, True, meaning, remedies.ARCHITECTURE)


def _tried(name: str, findings: Findings, machine: Machine, architecture: str) -> Protection:
    problem = findings.problems.get(name, "it was not tried")
    remedy = f"{_remedy(name, machine, findings, architecture)} ({problem})"
    meaning = NEEDED[name] if name in NEEDED else WANTED[name]
    if name == "Landlock":
        meaning += _landlock_limits(findings.landlock_abi)
    return protection(name, not problem, name in NEEDED, meaning, remedy)


def _landlock_limits(abi: int) -> str:
    if not 0 < abi < LANDLOCK_WITH_SCOPES:
        return ""
    return f" This kernel's (ABI {abi}) leaves signals and abstract sockets out; Linux 6.12 has all."


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


def _cgroup(name: str, missing: tuple[str, ...], machine: Machine) -> Protection:
    return protection(name, name not in missing, False, CGROUPS[name], remedies.for_cgroup(machine))
