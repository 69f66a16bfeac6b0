"""What a guest's system calls are refused, and which attack each refusal stops: the seccomp deny-list as data.

A deny-list, because programs are to find Linux as they know it: a container runtime's own profile lies around it, and
namespaces, Landlock, rlimits and the lack of every capability lie beside it. What is *not* here, on purpose: file locks
(SQLite, filelock), sendfile and copy_file_range (shutil), memfd_create, landlock itself, setuid and its kin (harmless
under no_new_privs), pidfd_open of the guest's own processes (asyncio waits on those).

All arguments that are compared are 32 bits wide in the kernel (`pid_t`, `int`, `unsigned int`; clone takes the low
word of its flags): it drops the upper half of the register before it looks, so comparing the low word is exact, and
comparing all 64 bits would let `kill(1 | 1 << 32)` through.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
IPPROTO_TCP, IPPROTO_UDP = 6, 17
CLONE_PARENT = 0x8000
CLONE_NEW_NAMESPACES = 0x7E020000  # all but CLONE_NEWTIME, whose bit means an exit signal in clone's flags
F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETDELEG = 8, 10, 15, 1024, 1026, 1040
FIOSETOWN, SIOCSPGRP = 0x8901, 0x8902
IOPRIO_WHO_USER = 3
PER_LINUX, PERSONALITY_QUERY = 0, 0xFFFFFFFF
PRIO_USER = 2
PR_SET_SECCOMP, PR_SCHED_CORE = 22, 62
RLIMIT_CORE = 4
TIOCSTI, TIOCLINUX, TIOCSETD = 0x5412, 0x541C, 0x5423


class Rule:
    """Some calls and when they are denied: always, or by one argument (the rest of the call does not matter).

    `equals`: denied for these values. `unless`: denied for all values but these. `any_of_bits`: denied if one is set.
    """

    __slots__ = ("any_of_bits", "argument", "calls", "equals", "error", "unless", "why")

    def __init__(
        self,
        calls: tuple[str, ...],
        why: str,
        error: int = errno.EPERM,
        argument: int | None = None,
        equals: Sequence[int] = (),
        unless: Sequence[int] = (),
        any_of_bits: int = 0,
    ) -> None:
        self.calls = calls
        self.why = why
        self.error = error
        self.argument = argument
        self.equals = tuple(equals)
        self.unless = tuple(unless)
        self.any_of_bits = any_of_bits


def protecting(process_ids: Sequence[int]) -> tuple[Rule, ...]:
    """Rules that keep a guest's hands off the given processes, which in a pod have its own uid.

    SECURITY: kill and prlimit take a *thread's* id too, so every thread of such a process must be named here.
    """
    groups = sorted({-1} | {-process_id for process_id in process_ids})
    return (
        Rule(
            ("kill",),
            "kills or stops the supervisor: by id, by its process group, or with everything else (-1)",
            argument=0,
            equals=(*process_ids, *groups),
        ),
        Rule(
            ("tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"),
            "other ways to signal the supervisor",
            argument=0,
            equals=process_ids,
        ),
        Rule(
            ("pidfd_open",),
            "a handle on the supervisor: today good for waiting only, tomorrow for whatever pidfds learn next",
            argument=0,
            equals=process_ids,
        ),
        Rule(
            ("prlimit64",),
            "takes the supervisor's memory, files or CPU time away: the same uid is all it needs",
            argument=0,
            equals=process_ids,
        ),
        Rule(
            ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"),
            "starves the supervisor, so that it misses the deadline it enforces",
            argument=0,
            equals=process_ids,
        ),
        Rule(
            ("migrate_pages", "move_pages"),
            "moves the supervisor's memory to a slow node",
            argument=0,
            equals=process_ids,
        ),
        Rule(
            ("setpriority", "ioprio_set"),
            "starves the supervisor by its id or its process group's",
            argument=1,
            equals=process_ids,
        ),
    )


NO_NETWORK = (
    Rule(
        ("socket", "socketpair"),
        "the network, netlink, and rare protocols full of holes (AF_ALG: CVE-2026-31431); AF_VSOCK leads out of a VM",
        error=errno.EACCES,
        argument=0,
        unless=(AF_UNIX,),
    ),
)

LOOPBACK = (
    Rule(
        ("socket",),
        "the same, but for IP in sessions: test servers listen on the loopback interface, and no other leads anywhere",
        error=errno.EACCES,
        argument=0,
        unless=(AF_UNIX, AF_INET, AF_INET6),
    ),
    Rule(
        ("socket",),
        "loads the kernel's modules for SCTP and DCCP, by type",
        error=errno.EACCES,
        argument=1,
        any_of_bits=0xC,  # SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET; the flags are higher
    ),
    Rule(
        ("socket",),
        "loads others by number: SCTP, MPTCP, UDP-Lite",
        error=errno.EACCES,
        argument=2,
        unless=(0, IPPROTO_TCP, IPPROTO_UDP),
    ),
    Rule(("socketpair",), "as without a network", error=errno.EACCES, argument=0, unless=(AF_UNIX,)),
)

RULES = (
    Rule(
        ("setpriority",),
        "PRIO_USER renices all processes of the uid, the supervisor's among them, without naming one",
        argument=0,
        equals=(PRIO_USER,),
    ),
    Rule(
        ("ioprio_set",),
        "IOPRIO_WHO_USER does the same for disk access",
        argument=0,
        equals=(IOPRIO_WHO_USER,),
    ),
    Rule(
        ("fcntl",),
        "makes the kernel send any signal, SIGKILL too, to any process of the uid when a file is ready (SETOWN, SETSIG)"
        " or a directory changes (NOTIFY); leases and delegations stall whoever opens the file next for 45 s",
        argument=1,
        equals=(F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETDELEG),
    ),
    Rule(
        ("ioctl",),
        "types into the terminal of whoever started the service (TIOCSTI, TIOCLINUX), loads line disciplines"
        " (TIOCSETD: n_gsm, n_hdlc), F_SETOWN by another name (FIOSETOWN, SIOCSPGRP)",
        argument=1,
        equals=(TIOCSTI, TIOCLINUX, TIOCSETD, FIOSETOWN, SIOCSPGRP),
    ),
    Rule(
        ("clone",),
        "a user namespace gives all capabilities over the kernel code behind it; CLONE_PARENT plants children that the"
        " zygote would take for its own",
        argument=0,
        any_of_bits=CLONE_NEW_NAMESPACES | CLONE_PARENT,
    ),
    Rule(
        ("clone3",),
        "its flags lie in memory, where no filter sees them; libc falls back to clone on ENOSYS",
        error=errno.ENOSYS,
    ),
    Rule(
        ("personality",),
        "switches address randomisation off (ADDR_NO_RANDOMIZE) or makes data executable; query and default stay",
        argument=0,
        unless=(PER_LINUX, PERSONALITY_QUERY),
    ),
    Rule(
        ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp"),
        "reads, writes, compares or frees another process's memory",
    ),
    Rule(
        ("pidfd_getfd", "pidfd_send_signal"),
        "steals a descriptor; signals by handle (a folder of /proc is one too), which no filter can tell apart",
    ),
    Rule(("unshare", "setns", "listns"), "namespaces: see clone"),
    Rule(("mount", "umount2", "pivot_root", "chroot"), "changes what paths mean"),
    Rule(
        (
            *("open_tree", "open_tree_attr", "move_mount", "mount_setattr"),
            *("fsopen", "fsconfig", "fsmount", "fspick", "statmount", "listmount"),
        ),
        "the new mount interface; fsconfig overflowed the heap from a user namespace (CVE-2022-0185)",
    ),
    Rule(
        ("keyctl", "add_key", "request_key"),
        "keyrings are shared by all processes of a uid, across sandboxes; a long list of kernel bugs",
    ),
    Rule(
        ("seccomp",),
        "a filter of the guest's own that logs each call (SECCOMP_RET_LOG) floods the node's audit log",
    ),
    Rule(
        ("prctl",),
        "PR_SET_SECCOMP: the older way to a filter; PR_SCHED_CORE: a cookie keeps every other process off the sibling"
        " thread of its core",
        argument=0,
        equals=(PR_SET_SECCOMP, PR_SCHED_CORE),
    ),
    Rule(
        ("sync", "syncfs", "fsync", "fdatasync", "sync_file_range", "msync"),
        "flushes the node's disks, over and over, for which a file opened to read is enough; they succeed: all that can"
        " be written here is memory",
        error=0,
    ),
    Rule(
        ("setrlimit",),
        "with a core limit of 0 instead of 1 a crash feeds the guest's bytes to the node's crash handler, as root",
        argument=0,
        equals=(RLIMIT_CORE,),
    ),
    Rule(
        ("prlimit64",), "sets it too (and reads it, which no filter can tell apart)", argument=1, equals=(RLIMIT_CORE,)
    ),
    Rule(("io_uring_setup", "io_uring_enter", "io_uring_register"), "does what it likes past this filter"),
    Rule(
        ("io_setup",),
        "fs.aio-max-nr is one number for the whole node: a guest can use it up for all",
    ),
    Rule(("userfaultfd",), "stops the kernel in the middle of a copy: what makes races in it exploitable"),
    Rule(("bpf", "perf_event_open"), "runs code in, or watches, the kernel"),
    Rule(
        (
            *("shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop"),
            *("msgget", "msgsnd", "msgrcv", "msgctl"),
        ),
        "SysV objects outlive the program: a message for the next run in this sandbox",
    ),
    Rule(
        ("mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr"),
        "POSIX queues outlive the program too",
    ),
    Rule(("mknod", "mknodat"), "FIFOs and device nodes in the workspace would block whoever collects the files"),
    Rule(("splice", "vmsplice", "tee"), "pages of a read-only file in a writable pipe (Dirty Pipe, CVE-2022-0847)"),
    Rule(("name_to_handle_at", "open_by_handle_at"), "opens files by number, around every path (Shocker)"),
    Rule(("fanotify_init", "fanotify_mark"), "watches, and can hold up, all opens on a file system"),
    Rule(
        ("inotify_init", "inotify_init1"),
        "tells which files of /usr the host and other sandboxes open, and when: they are the same inodes. `tail -f` and"
        " what watches a folder for changes fall back to polling",
    ),
    Rule(("memfd_secret",), "memory that no limit and no watch of ours counts"),
    Rule(("cachestat",), "shows which pages of shared read-only files other sandboxes have touched"),
    Rule(("modify_ldt", "iopl", "ioperm", "uselib"), "x86 relics that only exploits still call"),
    Rule(("settimeofday", "clock_settime", "clock_adjtime", "adjtimex"), "sets the node's clock"),
    Rule(("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"), "another kernel"),
    Rule(
        (
            *("reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "lookup_dcookie"),
            *("vhangup", "sethostname", "setdomainname"),
        ),
        "the node's administration: refused by the lack of capabilities already, and by this where that fails",
    ),
)
