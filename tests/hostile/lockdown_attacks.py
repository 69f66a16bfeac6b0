"""Attacks, and for each of them every step of the lock-down that stops it by itself.

A program finds the things of the host that it is after in `host` (`Host` in test_steps.py).
"""

from __future__ import annotations

import enum
import os
from typing import NamedTuple

AS_ROOT = os.geteuid() == 0
FORGED_STATUS = 77


class Won(enum.Enum):
    """How to tell that an attack has succeeded."""

    SAYS_SO = "it says so"
    SANDBOX_LOST = "the sandbox is gone"
    FORGED = f"the run ends with {FORGED_STATUS} while the program goes on"


class Attack(NamedTuple):
    source: str
    stopped_by: tuple[str, ...]
    """Each of these alone."""
    out_too: tuple[str, ...] = ()
    """Steps that cannot be done without one of those."""
    won: Won = Won.SAYS_SO


def as_root_too(*steps: str) -> tuple[str, ...]:
    """Steps that stop it only where the service is root: an ordinary user's sandboxes have that user's own uid."""
    return steps if AS_ROOT else ()


ATTACKS = {
    "kill the supervisor": Attack(
        "os.kill(SUPERVISOR, signal.SIGKILL)",
        stopped_by=("seccomp", "landlock"),
        won=Won.SANDBOX_LOST,
    ),
    "have the kernel kill the supervisor": Attack(
        """
        F_SETSIG = 10
        reading, writing = os.pipe()
        fcntl.fcntl(reading, fcntl.F_SETOWN, SUPERVISOR); fcntl.fcntl(reading, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC)
        os.write(writing, b"x")
        """,
        stopped_by=("seccomp", "landlock"),
        won=Won.SANDBOX_LOST,
    ),
    "read the zygote": Attack(
        'answer(len(open(f"/proc/{ZYGOTE}/maps", "rb").read()) > 0)',
        stopped_by=("zygote_not_dumpable", "landlock"),
    ),
    "write to the supervisor": Attack(
        'answer(os.open(f"/proc/{SUPERVISOR}/mem", os.O_RDWR) > 0)',
        stopped_by=("supervisor_not_dumpable", "landlock"),
    ),
    "renice the zygote with one's own group": Attack(
        """
        os.setpriority(os.PRIO_PGRP, 0, 19)
        answer(os.getpriority(os.PRIO_PROCESS, ZYGOTE) == 19)
        """,
        stopped_by=("own_session",),
    ),
    "tell the supervisor of a death that never was": Attack(
        f"""
        words = json.dumps({{"ended": os.getpid(), "status": {FORGED_STATUS}}}).encode()
        for number in range(3, CONTROL):
            attempt(os.write, number, words)
        time.sleep(60)
        """,
        stopped_by=("descriptors",),
        won=Won.FORGED,
    ),
    "find a variable that a library has set in the template": Attack(
        'answer(os.environ["PLANTED"] == "by a library")',
        stopped_by=("environment",),
    ),
    "make a file of a terabyte": Attack(
        'open("huge", "wb").truncate(1 << 40); os.remove("huge"); answer(True)',
        stopped_by=("rlimits",),
    ),
    "reach the network stack": Attack(
        "answer(socket.socket(socket.AF_INET).fileno() > 0)",
        stopped_by=("seccomp",),
    ),
    "watch which files of the host are opened": Attack(
        """
        IN_OPEN = 0x20
        watch = libc.inotify_init1(os.O_NONBLOCK)
        libc.inotify_add_watch(watch, host["folder"].encode(), IN_OPEN)
        subprocess.run(["cat", host["file"]], stdout=subprocess.DEVNULL)  # one of this sandbox is as good as any
        answer(os.path.basename(host["file"]).encode() in os.read(watch, 4096))
        """,
        stopped_by=("seccomp",),
    ),
    "connect to a port of the host": Attack(
        """
        socket.create_connection(("127.0.0.1", host["port"]), timeout=20)
        answer(True)
        """,
        stopped_by=("seccomp", "landlock", "network_namespace"),
    ),
    "connect to an abstract socket of the host": Attack(
        """
        socket.socket(socket.AF_UNIX).connect("\\0" + host["abstract"])
        answer(True)
        """,
        stopped_by=("landlock", "network_namespace"),
    ),
    "read shared memory of the host": Attack(
        """
        libc.shmat.restype = ctypes.c_void_p
        number = libc.shmget(host["shared_memory"], 0, 0)
        answer(number >= 0 and ctypes.string_at(libc.shmat(number, None, 0o10000)).decode() == host["secret"])
        """,
        stopped_by=("seccomp", "ipc_namespace"),
    ),
    "learn the host's name": Attack(
        'answer(socket.gethostname() == host["name"])',
        stopped_by=("uts_namespace",),
    ),
    "see cgroups from where the host sees them": Attack(
        'answer(os.readlink("/proc/self/ns/cgroup") == host["cgroup_namespace"])',
        stopped_by=("cgroup_namespace",),
    ),
    "read a file of the host": Attack(
        'answer(open("/old" + host["file"]).read() == host["secret"])',
        stopped_by=("mount_namespace",),
    ),
    "write into the root": Attack(
        'open("/planted", "w").close(); answer(True)',
        stopped_by=("read_only_root", "landlock", *as_root_too("own_uid")),
    ),
    "leave a time on a device of the host": Attack(
        'os.utime("/dev/null"); answer(True)',
        stopped_by=("read_only_root",),
    ),
    "use a capability": Attack(
        'os.chroot("/tmp"); answer(True)',
        stopped_by=("seccomp", "no_capabilities"),
    ),
    "use a capability outside": Attack(
        'socket.sethostname("planted"); answer(True)',
        stopped_by=("seccomp", "no_capabilities", "user_namespace", *as_root_too("own_uid")),
    ),
}

OF_ROOT = {
    "read a file that only root may read": Attack(
        'answer(open(host["closed_file"]).read() == host["secret"])',
        stopped_by=("own_uid",),
    ),
    "become root by a setuid program": Attack(
        'answer(subprocess.run([host["setuid"], "-u"], capture_output=True, text=True).stdout == "0\\n")',
        stopped_by=("no_new_privileges", "read_only_root", "user_namespace"),
        # The filters need no_new_privileges, and what empties the bounding set is a right in the user namespace.
        out_too=("landlock", "seccomp", "no_capabilities"),
    ),
    "take more memory than there is for a program": Attack(
        """
        def take():
            kept = b"x" * (100 << 20)
            time.sleep(0.5)
        for pid in children(4, take): os.waitpid(pid, 0)
        answer(True)
        """,
        stopped_by=("control_group",),
    ),
}
"""Where the service is root. An ordinary user has no files of others to protect, no setuid programs that mean anything
in its user namespace, and as a rule no cgroups."""

OF_USER = {
    "gain rights by running a program": Attack(
        'answer("NoNewPrivs:\\t0" in open("/proc/self/status").read())',
        stopped_by=("no_new_privileges",),
        out_too=("landlock", "seccomp"),
    ),
}

ALL = ATTACKS | (OF_ROOT if AS_ROOT else OF_USER)

WITHOUT_AN_ATTACK = {
    "pid_namespace": "all our bookkeeping stands on it: kill(-1), /proc, the pids in the filter; see its own test",
} | (
    {}
    if AS_ROOT
    else {
        "own_uid": "an ordinary user has one uid, and its sandboxes have the same",
        "control_group": "an ordinary user has cgroups only where they were delegated to it",
    }
)
"""Steps that no attack here is about, with the reason."""
