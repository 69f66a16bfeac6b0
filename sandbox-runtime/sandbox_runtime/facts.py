"""What the programs of a sandbox share beside its files, as it is now: for `cleaning.py` to compare."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import struct

from sandbox_runtime import guests, kernel, sockets, syscall_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Callable

_FILES = {
    "the mounts": "/proc/self/mountinfo",
    "the shared memory": "/proc/sysvipc/shm",
    "the semaphores": "/proc/sysvipc/sem",
    "the messages": "/proc/sysvipc/msg",
    "the host's name": "/proc/sys/kernel/hostname",
    "the domain's name": "/proc/sys/kernel/domainname",
}
MESSAGE_QUEUES = "/dev/mqueue"

_SETTINGS = {"oom score": "oom_score_adj", "group's niceness": "autogroup", "dump filter": "coredump_filter"}
"""Of a process: files of its folder in /proc."""

_STATUS = (b"Umask", b"TracerPid", b"Uid", b"Gid", b"Groups", b"Threads", b"CapInh", b"CapPrm", b"CapEff", b"CapBnd",
           b"CapAmb", b"NoNewPrivs", b"Seccomp", b"Mems_allowed")  # fmt: skip
"""Not which signals it blocks: that is its own affair, and it may still be about it when a baseline is taken."""
_PENDING = (b"SigPnd", b"ShdPnd")
_ALWAYS_PENDING = 1 << (signal.SIGCHLD - 1)
"""Guests have just died, and the zygote may hear of it now or later."""

_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]

_IOPRIO_WHO_PROCESS = 1
_SCHED_ATTRIBUTES = struct.Struct("=IIQiIQQQII")  # size, policy, flags, nice, priority, three times, two clamps


READ_BYTES = 65536


class Facts:
    """Reads them, again and again: the files stay open, for opening them takes longer than reading them."""

    def __init__(self, writable: Iterable[str]) -> None:
        """`writable` are the places that are wiped."""
        self._open: dict[str, int | None] = {}
        self.others = _other_places(self._read(_FILES["the mounts"]), writable)

    def now(self, before: dict[str, object] | None = None) -> dict[str, object]:
        """`before` is what they should be: what only takes a moment to be so again is given it."""
        found: dict[str, object] = {name: self._read(path) for name, path in _FILES.items()}
        found["the list of processes"] = guests.living()
        found["the message queues"] = sorted(os.listdir(MESSAGE_QUEUES)) if os.path.isdir(MESSAGE_QUEUES) else []
        found["the sockets"] = self._sockets(before)
        found["what else can be written to"] = [_stamp(path) for path in self.others]
        for name, who in (("the zygote", 1), ("the supervisor", os.getpid())):
            found.update({f"the {what} of {name}": value for what, value in self._of_process(who)})
        return found

    def _sockets(self, before: dict[str, object] | None) -> sockets.Rows:
        if before is None:
            return self._list_sockets()
        return sockets.settled(self._list_sockets, before.get("the sockets"))  # type: ignore[arg-type]  # from here

    def _list_sockets(self) -> sockets.Rows:
        return sockets.rows(self._read(sockets.LISTED))

    def _of_process(self, who: int) -> Iterator[tuple[str, object]]:
        yield "limits", _or_none(lambda: [resource.prlimit(who, number) for number in _LIMITS])
        yield "niceness", _or_none(lambda: os.getpriority(os.PRIO_PROCESS, who))
        yield "affinity", _or_none(lambda: os.sched_getaffinity(who))
        yield "scheduling", _or_none(lambda: _scheduling(who))
        yield "disk priority", _or_none(lambda: _disk_priority(who))
        yield "status", _status(self._read(f"/proc/{who}/status"))
        for name, file in _SETTINGS.items():
            yield name, self._read(f"/proc/{who}/{file}")

    def _read(self, path: str) -> bytes:
        """All of it; nothing of what is not there, or not for us to know: then nor is it for a program to change."""
        if path not in self._open:
            self._open[path] = _or_none(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        file, data = self._open[path], b""
        while file is not None and (more := os.pread(file, READ_BYTES, len(data))):
            data += more
        return data


def _other_places(mounts: bytes, writable: Iterable[str]) -> list[str]:
    """Files and folders that are mounted to be written to, beside those places; in pods the container's last words
    (/dev/termination-log). SECURITY: what keeps programs from writing there is Landlock alone."""
    mounted = [line.split(b" ")[4:6] for line in mounts.splitlines()]
    paths = {os.fsdecode(path) for path, options in mounted if b"rw" in options.split(b",")} - set(writable)
    return sorted(path for path in paths if _stamp(path) is not None)


def _stamp(path: str) -> object:
    """What changes with a file's content or a folder's list; None for devices, and for what is not files at all."""
    try:
        found, space = os.stat(path), os.statvfs(path)
    except OSError:
        return None
    if not (stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and space.f_blocks)):
        return None
    return found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns


# --- the zygote and the supervisor


def _scheduling(who: int) -> tuple[int, ...]:
    buffer = ctypes.create_string_buffer(_SCHED_ATTRIBUTES.size)
    number = syscall_numbers.number("sched_setattr") + 1  # its neighbour everywhere; the table has what is refused
    kernel.libc_call("syscall", "read how a process is scheduled", number, who, buffer, len(buffer), 0)
    words = _SCHED_ATTRIBUTES.unpack(buffer.raw)
    return words[1:5] + words[8:]  # the three times are the kernel's own to choose


def _disk_priority(who: int) -> int:
    number = syscall_numbers.number("ioprio_set") + 1  # here too
    return kernel.libc_call("syscall", "read a priority", number, _IOPRIO_WHO_PROCESS, who)


def _status(text: bytes) -> object:
    fields = dict(line.partition(b":")[::2] for line in text.splitlines())
    pending = [int(fields.get(name, b"0"), 16) & ~_ALWAYS_PENDING for name in _PENDING]
    return pending, [fields.get(name) for name in _STATUS]


def _or_none(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except OSError:
        return None
