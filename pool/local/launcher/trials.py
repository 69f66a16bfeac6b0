"""Tries, one after the other, what a sandbox is made of, each in a process that ends with it.

Called by `pool/local/probe.py` in a process of its own. Writes JSON: for each trial what went wrong, "" where
nothing did, and what else is to know about this kernel.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import socket
import sys

from sandbox_runtime import kernel, landlock, namespaces, seccomp

from . import birth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

TRIAL_SECONDS = 10
BASE = "/mnt"
"""Where the launcher builds the root of sandboxes; here a mount in a namespace of the trial's own."""


def user_namespace(host_id: int) -> None:
    """As the launcher does: root takes a uid of nobody first, others enter as they are."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(host_id, host_id, host_id)
        os.setresuid(host_id, host_id, host_id)
    birth.enter_user_namespace(os.getuid(), os.getgid())


def namespace(flag: int) -> None:
    _become_able()
    namespaces.unshare(flag)


def pid_namespace() -> None:
    namespace(namespaces.CLONE_NEWPID)
    _in_child(_be_first)


def mounts() -> None:
    """A tmpfs, a read-only bind, and a /proc for a PID namespace of its own."""
    namespace(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID)
    namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("tmpfs", BASE, "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, "size=64k")
    os.mkdir(BASE + "/usr")
    namespaces.mount("/usr", BASE + "/usr", None, namespaces.MS_BIND)
    flags = namespaces.MS_BIND | namespaces.MS_REMOUNT | namespaces.MS_RDONLY
    namespaces.mount("none", BASE + "/usr", None, flags | namespaces.locked_flags(BASE + "/usr"))
    _in_child(_mount_proc)


def no_new_privileges() -> None:
    kernel.set_no_new_privs()


def seccomp_filter() -> None:
    kernel.set_no_new_privs()
    seccomp.install(seccomp.build(platform.machine(), (1, 2)))
    try:
        socket.socket(socket.AF_INET).close()
    except PermissionError:
        return
    raise OSError("a filter that refuses network sockets was installed, and one could be made")


def landlock_rules() -> None:
    kernel.set_no_new_privs()
    landlock.restrict(landlock.prepare(readable=["/"]))
    try:
        os.open(os.devnull, os.O_WRONLY)
    except PermissionError:
        return
    raise OSError("rules that refuse writing were put on, and a file could be opened for writing")


def trials(host_id: int) -> dict[str, Callable[[], None]]:
    return {
        "user namespace": functools.partial(user_namespace, host_id),
        "mount namespace": functools.partial(namespace, namespaces.CLONE_NEWNS),
        "PID namespace": pid_namespace,
        "network namespace": functools.partial(namespace, namespaces.CLONE_NEWNET),
        "IPC namespace": functools.partial(namespace, namespaces.CLONE_NEWIPC),
        "UTS namespace": functools.partial(namespace, namespaces.CLONE_NEWUTS),
        "cgroup namespace": functools.partial(namespace, namespaces.CLONE_NEWCGROUP),
        "mounts": mounts,
        "seccomp filter": seccomp_filter,
        "no_new_privs": no_new_privileges,
        "Landlock": landlock_rules,
    }


def _become_able() -> None:
    """To make the other namespaces takes a capability: root has it, others get it in a user namespace of their own."""
    if os.geteuid() != 0:
        birth.enter_user_namespace(os.getuid(), os.getgid())


def _be_first() -> None:
    if os.getpid() != 1:
        raise OSError(f"the first process of a PID namespace has the number {os.getpid()}")


def _mount_proc() -> None:
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
    namespaces.mount("proc", "/proc", "proc", flags)


def _in_child(function: Callable[[], None]) -> None:
    problem = attempt(function)
    if problem:
        raise OSError(problem)


def attempt(function: Callable[[], None]) -> str:
    """Call it in a child; "" when that went well, else what went wrong."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _report(function, writing)
    os.close(writing)
    with open(reading, "rb") as answer:
        said = answer.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said if status >= 0 else f"killed by {signal.Signals(-status).name}"


def _report(function: Callable[[], None], writing: int) -> NoReturn:
    signal.alarm(TRIAL_SECONDS)
    try:
        function()
    except BaseException as error:  # the parent's code must not run on in this process
        os.write(writing, (str(error) or repr(error)).encode()[:1000])
    os._exit(0)


def main(host_id: int) -> None:
    found = {name: attempt(trial) for name, trial in trials(host_id).items()}
    json.dump({"problems": found, "landlock_abi": landlock.abi()}, sys.stdout)
