"""System call numbers of x86_64 and aarch64, for the calls that the seccomp filter names and those that libc lacks.

Held against the kernel's own headers in the tests, where those are installed.
"""

from __future__ import annotations

import errno
import os

MACHINES = ("x86_64", "aarch64")

# In the order of MACHINES. None: aarch64 never had the call (libc uses a newer one there).
SEPARATE: dict[str, tuple[int, int | None]] = {
    "ioctl": (16, 29),
    "msync": (26, 227),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "kill": (62, 129),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "fcntl": (72, 25),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "rt_sigqueueinfo": (129, 138),
    "mknod": (133, None),
    "uselib": (134, None),
    "personality": (135, 92),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "vhangup": (153, 58),
    "modify_ldt": (154, None),
    "pivot_root": (155, 41),
    "adjtimex": (159, 171),
    "setrlimit": (160, 164),
    "chroot": (161, 51),
    "sync": (162, 81),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "tkill": (200, 130),
    "sched_setaffinity": (203, 122),
    "io_setup": (206, 0),
    "lookup_dcookie": (212, 18),
    "semtimedop": (220, 192),
    "clock_settime": (227, 112),
    "tgkill": (234, 131),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "ioprio_set": (251, 30),
    "inotify_init": (253, None),
    "migrate_pages": (256, 238),
    "mknodat": (259, 33),
    "unshare": (272, 97),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "move_pages": (279, 239),
    "rt_tgsigqueueinfo": (297, 240),
    "inotify_init1": (294, 26),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "clock_adjtime": (305, 266),
    "sync_file_range": (277, 84),
    "syncfs": (306, 267),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "sched_setattr": (314, 274),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
}

# From 424 on a new call gets the same number everywhere.
SHARED: dict[str, int] = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "openat2": 437,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "cachestat": 451,
    "statmount": 457,
    "listmount": 458,
    "open_tree_attr": 467,
    "listns": 470,
}

# The highest number whose meaning was weighed for the filter (rseq_slice_yield, Linux 7.0). Whoever raises it looks at
# every call in between first.
NEWEST_WEIGHED = 471


def _column(machine: str) -> dict[str, int]:
    separate = {name: numbers[MACHINES.index(machine)] for name, numbers in SEPARATE.items()}
    return {**{name: number for name, number in separate.items() if number is not None}, **SHARED}


_TABLES = {machine: _column(machine) for machine in MACHINES}


def table(machine: str) -> dict[str, int]:
    """Name to number, for the calls that this kind of machine has."""
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine!r}; there are for {', '.join(MACHINES)}")
    return _TABLES[machine]


def number(name: str) -> int:
    return table(os.uname().machine)[name]
