"""What turns a forked process into the first of a sandbox, or into its supervisor.

SECURITY: the order matters. Mounts are made while we may; then the uid that no file of the host
belongs to; then a user namespace in which this is all there is; then nothing may be made any more.
"""

from __future__ import annotations

import functools
import os
import signal
import socket

from sandbox_runtime import capabilities, kernel, namespaces, places
from sandbox_runtime.lockdown import Lockdown

from . import root

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

SANDBOX_ID = 65532
SUPERVISOR_PID = 2
"""In its sandbox's PID namespace: it is the first to join the zygote there."""
HOSTNAME = "sandbox"

_BY_STEP = {
    "ipc_namespace": namespaces.CLONE_NEWIPC,
    "uts_namespace": namespaces.CLONE_NEWUTS,
    "cgroup_namespace": namespaces.CLONE_NEWCGROUP,
    "network_namespace": namespaces.CLONE_NEWNET,
}
_OWN = namespaces.MS_NOSUID | namespaces.MS_NODEV


def become_first(host_id: int, as_root: bool, limits: dict[str, int], trees: list[str], lockdown: Lockdown) -> None:
    """Make this process, already PID 1 of a new PID namespace, a locked-down zygote.

    `host_id` is the uid and gid on the host: one that is used by nobody else. `trees` as in `root.build`.
    """
    os.setsid()  # the filter protects a process and the group it leads
    lockdown.did("pid_namespace", "mount_namespace", "read_only_root")
    namespaces.unshare(namespaces.CLONE_NEWNS)
    for name, flag in _BY_STEP.items():
        lockdown.step(name, functools.partial(namespaces.unshare, flag))
    if limits["loopback"] and "network_namespace" in lockdown.applied:
        namespaces.raise_loopback()
    _name_the_host(lockdown)
    own_id = host_id if as_root and lockdown.wants("own_uid") else os.getuid()
    hidden = root.hidden_by(places.WRITABLE, trees)
    _mount_own(own_id, limits)
    root.show_again(hidden, writable=not lockdown.wants("read_only_root"))
    if as_root:
        lockdown.step("own_uid", lambda: _switch_ids(host_id))
    else:
        lockdown.did("own_uid")
    lockdown.step("user_namespace", lambda: enter_user_namespace(own_id, own_id))
    # After the last change of ids: each clears the signal.
    kernel.set_parent_death_signal(signal.SIGKILL)
    _give_up_rights(lockdown)
    kernel.set_dumpable(not lockdown.wants("zygote_not_dumpable"))
    lockdown.did("zygote_not_dumpable")
    os.chdir("/workspace")
    places.lay_out_tmp(root.FONT_LISTS)


def join(sandbox: int, own_id: int, steps: list[str], lockdown: Lockdown) -> None:
    """Enter the sandbox behind the pidfd `sandbox` as its supervisor; its PID namespace was entered before the fork.

    `own_id` is the zygote's uid and gid as it sees them, and `steps` are those that it has done.
    """
    if os.getpid() != SUPERVISOR_PID and lockdown.wants("pid_namespace"):
        # SECURITY: the child's filter protects this number. A fork that failed after its pid was taken shifts it.
        raise OSError(f"the supervisor has pid {os.getpid()} in its sandbox, not {SUPERVISOR_PID}")
    os.setsid()
    flags = sum(flag for name, flag in _BY_STEP.items() if name in steps)
    flags |= namespaces.CLONE_NEWUSER if "user_namespace" in steps else 0
    namespaces.setns(sandbox, namespaces.CLONE_NEWNS | flags)
    os.close(sandbox)
    if os.getuid() != own_id:
        os.setresgid(own_id, own_id, own_id)
        os.setresuid(own_id, own_id, own_id)
    kernel.set_parent_death_signal(signal.SIGKILL)
    _give_up_rights(lockdown)
    kernel.set_dumpable(not lockdown.wants("supervisor_not_dumpable"))
    os.chdir("/")


def _give_up_rights(lockdown: Lockdown) -> None:
    if lockdown.wants("no_capabilities"):
        capabilities.drop_bounding_set()
        capabilities.clear()
        lockdown.did("no_capabilities")
    lockdown.step("no_new_privileges", kernel.set_no_new_privs)


def _name_the_host(lockdown: Lockdown) -> None:
    # Without a UTS namespace the name is the host's: root would rename the machine.
    if "uts_namespace" in lockdown.applied:
        socket.sethostname(HOSTNAME)


def _mount_own(owner: int, limits: dict[str, int]) -> None:
    """What is this sandbox's alone: its processes, and three places to write."""
    namespaces.mount("proc", "/proc", "proc", _OWN | namespaces.MS_NOEXEC)
    for path, size_bytes, mode in (
        ("/workspace", limits["workspace_bytes"], "700"),
        ("/tmp", limits["tmp_bytes"], "1777"),  # noqa: S108  # the sandbox's own mount
        ("/dev/shm", limits["shm_bytes"], "1777"),  # noqa: S108
    ):
        options = f"size={size_bytes},nr_inodes={limits['inodes']},mode={mode},uid={owner},gid={owner}"
        namespaces.mount("tmpfs", path, "tmpfs", _OWN, options)


def _switch_ids(host_id: int) -> None:
    os.setgroups([])
    os.setresgid(host_id, host_id, host_id)
    os.setresuid(host_id, host_id, host_id)


def enter_user_namespace(uid: int, gid: int) -> None:
    """A user namespace in which the ids `uid` and `gid`, our own, are 65532, and no other exists."""
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    kernel.set_dumpable(True)  # the maps belong to root while a process is not dumpable
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{SANDBOX_ID} {uid} 1"),
        ("gid_map", f"{SANDBOX_ID} {gid} 1"),
    ):
        with open("/proc/self/" + file, "w") as stream:
            stream.write(text)
