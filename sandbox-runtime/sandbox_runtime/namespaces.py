"""Namespaces and mounts: the kernel's calls and their flags. Order and meaning belong to the launcher."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from sandbox_runtime import kernel

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

NAMES = {
    CLONE_NEWTIME: "time",
    CLONE_NEWNS: "mount",
    CLONE_NEWCGROUP: "cgroup",
    CLONE_NEWUTS: "uts",
    CLONE_NEWIPC: "ipc",
    CLONE_NEWUSER: "user",
    CLONE_NEWPID: "pid",
    CLONE_NEWNET: "network",
}


def unshare(flags: int) -> None:
    """Move this process into new namespaces; for the PID namespace only its next children are in it."""
    kernel.libc_call("unshare", f"unshare {named(flags)}", flags)


def setns(descriptor: int, flags: int = 0) -> None:
    """Join the namespace behind a /proc/…/ns file, or those in `flags` of the process behind a pidfd (Linux 5.8)."""
    kernel.libc_call("setns", f"setns {named(flags)} by descriptor {descriptor}", descriptor, flags)


def named(flags: int) -> str:
    """The namespaces in `flags`, for people: a refusal must name what is missing."""
    return "+".join(name for flag, name in NAMES.items() if flags & flag) or f"{flags:#x}"


def mount(source: str | None, target: str, filesystem: str | None, flags: int, options: str | None = None) -> None:
    what = f"mount {filesystem or 'bind'} {source} on {target} (flags {flags:#x}, options {options or 'none'})"
    optional = [None if text is None else kernel.c_path(text) for text in (source, filesystem, options)]
    kernel.libc_call("mount", what, optional[0], kernel.c_path(target), optional[1], flags, optional[2])


def unmount(target: str, flags: int = 0) -> None:
    kernel.libc_call("umount2", f"unmount {target} (flags {flags:#x})", kernel.c_path(target), flags)


def pivot_root(new_root: str, old_root_goes_to: str) -> None:
    """Make the mount `new_root` the root. Neither path may lie on a shared mount: make "/" private first.

    The working directory stays where it was, outside: the caller changes to "/" next, then unmounts the old root.
    """
    what = f"pivot_root to {new_root}, old root to {old_root_goes_to}"
    kernel.system_call("pivot_root", what, kernel.c_path(new_root), kernel.c_path(old_root_goes_to))


def locked_flags(path: str) -> int:
    """The mount flags at `path` that a remount must repeat: in a user namespace the kernel refuses to clear them."""
    present = os.statvfs(path).f_flag
    pairs = (
        (os.ST_RDONLY, MS_RDONLY),
        (os.ST_NOSUID, MS_NOSUID),
        (os.ST_NODEV, MS_NODEV),
        (os.ST_NOEXEC, MS_NOEXEC),
        (os.ST_NOATIME, MS_NOATIME),
        (os.ST_NODIRATIME, MS_NODIRATIME),
        (os.ST_RELATIME, MS_RELATIME),
    )
    return sum(mount_flag for statvfs_flag, mount_flag in pairs if present & statvfs_flag)


_IFREQ = struct.Struct("16sH14x")  # netdevice(7): struct ifreq, of which the flags are asked and set
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def raise_loopback() -> None:
    """Bring the loopback interface up; a new network namespace has it down. Needs CAP_NET_ADMIN over the namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        _, flags = _IFREQ.unpack(fcntl.ioctl(asking, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
        fcntl.ioctl(asking, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
