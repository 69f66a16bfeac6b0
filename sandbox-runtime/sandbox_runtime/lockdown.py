"""The steps that lock a sandbox down, by name: what each is for, where it is done, and which were.

No setting can leave a step out. Only a test does, by handing `Lockdown` the names to leave out, to
show that an attack succeeds without every step that stops it (`tests/hostile/test_steps.py`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

STEPS: dict[str, str] = {
    # The launcher, for the whole sandbox.
    "user_namespace": "no capability of the sandbox means anything outside of it",
    "mount_namespace": "the host's files are not there",
    "pid_namespace": "the host's processes cannot be seen or signalled, and all of the sandbox dies with its first",
    "network_namespace": "no interface leads anywhere",
    "ipc_namespace": "System V and POSIX IPC of others cannot be reached",
    "uts_namespace": "the host's name is not told",
    "cgroup_namespace": "the host's cgroup paths are not told",
    "read_only_root": "nothing but the workspace, /tmp and /dev/shm can be written",
    "own_uid": "files of the host that some uid may read stay closed: nobody has this one",
    "no_capabilities": "no call that needs a capability works, in the bounding set neither",
    "no_new_privileges": "a setuid program gives nothing",
    # The processes that are ours.
    "zygote_not_dumpable": "the program cannot read, trace or write to the process that it was forked from",
    "supervisor_not_dumpable": "the program cannot read, trace or write to the process that reports on it",
    # The child, before it hears of a request.
    "own_session": "terminal and process group are the program's own",
    "descriptors": "no descriptor but its own is open",
    "environment": "no variable but the documented ones",
    "control_group": "memory, processes and CPU are counted and capped",
    "rlimits": "open files, file size, memory, locked memory, message queues and core files are capped",
    "landlock": "writes, traces, signals and abstract sockets stay inside, whatever the mounts say",
    "seccomp": "the calls that serve only attacks are refused",
}

REDUCED = frozenset({"landlock", "control_group", "uts_namespace", "cgroup_namespace"})
"""Without these the sandbox still holds, with fewer layers: it runs, and says so. Without another it does not run."""


class Lockdown:
    """Does steps and remembers which. One a process: what a fork has done so far goes on in its child."""

    __slots__ = ("_left_out", "applied", "missing")

    def __init__(self, left_out: frozenset[str] = frozenset()) -> None:
        self._left_out = left_out
        self.applied: list[str] = []
        self.missing: list[str] = []

    def wants(self, name: str) -> bool:
        """Whether to do this step: for those that are part of a larger call. The caller then says `did`."""
        STEPS[name]  # an unknown step is a bug: KeyError
        return name not in self._left_out

    def did(self, *names: str) -> None:
        self.applied += [name for name in names if self.wants(name) and name not in self.applied]

    def step(self, name: str, do: Callable[[], object]) -> None:
        """Do one step. Raises what `do` raises, unless the sandbox may run without it."""
        if not self.wants(name):
            return
        try:
            do()
        except OSError:
            if name not in REDUCED:
                raise
            self.missing.append(name)
        else:
            self.did(name)
