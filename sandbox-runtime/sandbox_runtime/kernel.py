"""Calls into the kernel that Python does not offer, each an OSError with what was tried when it fails.

Linux only at call time, importable anywhere: libc's functions are looked up when they are called.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from sandbox_runtime import syscall_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Argument = int | bytes | None | ctypes.Array[ctypes.c_char]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

SIGSET_BYTES = 128  # sizeof(sigset_t), the same in glibc and musl
SFD_CLOEXEC = os.O_CLOEXEC
SFD_NONBLOCK = os.O_NONBLOCK


def libc_call(function: str, what: str, *arguments: Argument) -> int:
    """Call a libc function by name; a negative result becomes an OSError that says what was tried."""
    return _checked(getattr(_libc, function)(*map(_native, arguments)), what)


def system_call(name: str, what: str, *arguments: Argument) -> int:
    """Make a system call that libc has no function for (or not every libc has)."""
    number = syscall_numbers.number(name)
    return _checked(_libc.syscall(*map(_native, (number, *arguments))), what)


def _native(argument: Argument) -> object:
    # A bare int is passed in 32 bits: the upper half of a `long` argument is then whatever the register held.
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def c_path(path: str | bytes) -> bytes:
    """A path as libc takes it; C would silently cut one that contains NUL."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise OSError(errno.EINVAL, f"NUL byte in a path of {len(encoded)} bytes")
    return encoded


def prctl(option: int, what: str, *arguments: int) -> int:
    padding = (0,) * (4 - len(arguments))  # newer options fail with EINVAL unless the unused arguments are zero
    return libc_call("prctl", f"prctl {what}", option, *arguments, *padding)


def set_dumpable(dumpable: bool) -> None:
    """SECURITY: a non-dumpable process cannot be traced, nor its /proc files opened, by another of its own uid.

    Inherited by fork, set back to 1 by execve, lost (0) on a change of uid.
    """
    prctl(PR_SET_DUMPABLE, f"set dumpable {int(dumpable)}", int(dumpable))


def is_dumpable() -> bool:
    return prctl(PR_GET_DUMPABLE, "get dumpable") == 1


def set_no_new_privs() -> None:
    """From here on, for good, no execve gives more rights (setuid, file capabilities); inherited by all descendants."""
    prctl(PR_SET_NO_NEW_PRIVS, "set no_new_privs", 1)


def has_no_new_privs() -> bool:
    return prctl(PR_GET_NO_NEW_PRIVS, "get no_new_privs") == 1


def set_parent_death_signal(signal_number: int) -> None:
    """Get `signal_number` when the parent dies. A change of uid or gid clears it: call this after that.

    It follows the parent *thread*; a parent that died before the call is not noticed: compare getppid() afterwards.
    """
    prctl(PR_SET_PDEATHSIG, f"set parent death signal {signal_number}", signal_number)


def pidfd_open(pid: int) -> int:
    if sys.version_info >= (3, 9) and hasattr(os, "pidfd_open"):  # absent where Python was built on an old libc
        return os.pidfd_open(pid)
    descriptor = system_call("pidfd_open", f"pidfd_open {pid}", pid, 0)
    os.set_inheritable(descriptor, False)
    return descriptor


def signalfd(signal_numbers: Iterable[int], flags: int = SFD_CLOEXEC) -> int:
    """A descriptor that reads as 128-byte records, one a signal; the caller blocks the signals itself."""
    numbers = sorted(int(number) for number in signal_numbers)
    mask = sum(1 << (number - 1) for number in numbers)
    return libc_call("signalfd", f"signalfd {numbers}", -1, mask.to_bytes(SIGSET_BYTES, sys.byteorder), flags)
