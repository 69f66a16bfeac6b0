"""What is written into a sandbox's cgroup, and what is read from it: v1 and v2 as tables."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pool.settings import RunLimits

OWN_BYTES = 64 * 2**20
"""Of the wall, for what a sandbox needs beside its program's memory and files: pages that the child copies from
the zygote, page tables, stacks in the kernel, libraries read from disk. The kernel takes back what it can of
it first. More lets a bomb grow further before the wall stops it; less kills large programs below their limit.
Measured: 2.4 MiB in an armed child, 0.5 MiB of kernel memory a process, 0.94 KiB an empty file."""

INODE_BYTES = 1024
"""Kernel memory of an empty file on a tmpfs, which no size limit counts."""

WRITABLE_MOUNTS = 3

CPU_PERIOD_US = 100_000

V1_SHARES, V2_WEIGHT = 64, 6
"""CPU of all sandboxes together against one process of the service (1024, and 100). Beside four programs that compute,
a request took 11 ms (p99 35) with 64, 14 to 20 (47 to 107) with 256 and 1024. With 2 programs starve, for a second and
more, when anything else on the machine is busy."""


STARTING = "starting"
"""The folder, beside those of the sandboxes, in which a template and the sandboxes that it starts have their CPU."""


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one controller."""

    parent: tuple[tuple[str, int], ...]
    """Written once, into the folder that holds all sandboxes: it holds for them together, or is inherited."""
    needed: Callable[[RunLimits], tuple[tuple[str, object], ...]]
    optional: Callable[[RunLimits], tuple[tuple[str, object], ...]]
    """Where this kernel has the file."""
    starting: tuple[tuple[str, int], ...] = ()
    """Written once, into the folder of what starts sandboxes. Half the weight of a program that has just begun, and
    five times that of a long one: in the service's own place they had 16 times as much as any program, and p99 of a
    group-by at 10/s was 69 to 99 ms; so it is 34 to 63. With less, a pool beside programs that compute is filled too
    slowly."""
    gauges: tuple[tuple[str, str], ...]
    """What the supervisor reads, or writes if it is a weight (`sandbox_runtime/gauges.py`), and in which file."""


def wall_bytes(limits: RunLimits) -> int:
    """The kernel's own limit. The supervisor's watch on the program's memory comes before it."""
    files = limits.workspace_bytes + limits.tmp_bytes + limits.shm_bytes
    return limits.memory_bytes + files + WRITABLE_MOUNTS * limits.inodes * INODE_BYTES + OWN_BYTES


def quota_us(limits: RunLimits) -> int:
    return max(1000, limits.cpu_millicores * CPU_PERIOD_US // 1000)  # the kernel refuses less than a millisecond


def _nothing(limits: RunLimits) -> tuple[tuple[str, object], ...]:
    return ()


_PIDS = Lines(
    parent=(),
    needed=lambda limits: (("pids.max", limits.processes),),
    optional=_nothing,
    gauges=(("pids_current", "pids.current"), ("pids_events", "pids.events")),
)

LINES = {
    (1, "memory"): Lines(
        parent=(("memory.swappiness", 0),),
        needed=lambda limits: (("memory.limit_in_bytes", wall_bytes(limits)),),
        optional=_nothing,
        gauges=(("memory_stat", "memory.stat"), ("memory_events", "memory.oom_control")),
    ),
    (2, "memory"): Lines(
        parent=(("memory.swap.max", 0),),
        needed=lambda limits: (("memory.max", wall_bytes(limits)),),
        # One guest killed and the others left would be a program that goes on without a part of itself.
        optional=lambda limits: (("memory.oom.group", 1),),
        gauges=(("memory_stat", "memory.stat"), ("memory_events", "memory.events")),
    ),
    (1, "pids"): _PIDS,
    (2, "pids"): _PIDS,
    (1, "cpu"): Lines(
        parent=(("cpu.shares", V1_SHARES),),
        needed=_nothing,
        optional=lambda limits: (("cpu.cfs_quota_us", quota_us(limits)),),
        starting=(("cpu.shares", 512),),
        gauges=(("cpu_shares", "cpu.shares"),),
    ),
    (2, "cpu"): Lines(
        parent=(("cpu.weight", V2_WEIGHT),),
        needed=_nothing,
        optional=lambda limits: (("cpu.max", f"{quota_us(limits)} {CPU_PERIOD_US}"),),
        starting=(("cpu.weight", 50),),
        gauges=(("cpu_weight", "cpu.weight"),),
    ),
}

QUOTA_FILES = {1: "cpu.cfs_quota_us", 2: "cpu.max"}
