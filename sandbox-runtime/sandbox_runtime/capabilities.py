"""Linux capabilities of the calling thread: read, set, raise for execve, and drop for good."""

from __future__ import annotations

import ctypes
import errno
import struct

from sandbox_runtime import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
AMBIENT_RAISE = 2
AMBIENT_CLEAR_ALL = 4

_HEADER = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, the calling thread
_SETS = struct.Struct("=6I")  # effective, permitted, inheritable: the low words, then the high ones
_WORD = 0xFFFFFFFF


def get() -> tuple[int, int, int]:
    """The effective, permitted and inheritable sets, each as one bit mask."""
    data = ctypes.create_string_buffer(_SETS.size)
    kernel.libc_call("capget", "capget", _HEADER, data)
    low_high = _SETS.unpack(data.raw)
    effective, permitted, inheritable = (low_high[i] | low_high[i + 3] << 32 for i in range(3))
    return effective, permitted, inheritable


def set_to(effective: int, permitted: int, inheritable: int) -> None:
    masks = (effective, permitted, inheritable)
    data = _SETS.pack(*(mask & _WORD for mask in masks), *(mask >> 32 for mask in masks))
    kernel.libc_call("capset", f"capset {effective:#x} {permitted:#x} {inheritable:#x}", _HEADER, data)


def clear() -> None:
    """Empty the effective, permitted, inheritable and ambient sets; the kernel allows this to everyone."""
    clear_ambient()
    set_to(0, 0, 0)


def clear_ambient() -> None:
    kernel.prctl(PR_CAP_AMBIENT, "clear ambient capabilities", AMBIENT_CLEAR_ALL)


def raise_ambient() -> None:
    """Make all permitted capabilities survive an execve: what a launcher in a user namespace of its own needs."""
    _, permitted, _ = get()
    set_to(permitted, permitted, permitted)
    for capability in _known():
        if permitted >> capability & 1:
            kernel.prctl(PR_CAP_AMBIENT, f"raise ambient capability {capability}", AMBIENT_RAISE, capability)


def drop_bounding_set() -> None:
    """SECURITY: without it a setuid-root or file-capability program would get capabilities back.

    Needs CAP_SETPCAP: so before the switch to an ordinary uid.
    """
    for capability in _known():
        if _in_bounding_set(capability):
            kernel.prctl(PR_CAPBSET_DROP, f"drop capability {capability} from the bounding set", capability)


def _known() -> Iterator[int]:
    """All capabilities that this kernel knows, found without /proc, which may be out of sight."""
    for capability in range(64):
        try:
            _in_bounding_set(capability)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return
        yield capability


def _in_bounding_set(capability: int) -> bool:
    return kernel.prctl(PR_CAPBSET_READ, f"read capability {capability} of the bounding set", capability) == 1
