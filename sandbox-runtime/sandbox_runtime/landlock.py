"""Landlock: from here on only the named folders and files can be opened, whoever owns the others.

A set of rules is prepared once and put on each child when it is forked: making it costs ten times as much as using it.
Kernels differ in what they can restrict (the "ABI" number); what this one cannot is left out, and `restrict` says so.
"""

from __future__ import annotations

import errno
import os
import struct

from sandbox_runtime import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Below 2 (Linux 5.13 to 5.18) every rename and hard link from one folder to another fails with EXDEV, allowed or not:
# git, pip and os.replace would break, for one layer among several. Counted as missing there.
OLDEST_USED_ABI = 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR = 1 << 4, 1 << 5, 1 << 6, 1 << 7
MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK = 1 << 8, 1 << 9, 1 << 10, 1 << 11
MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = 1 << 12, 1 << 13, 1 << 14, 1 << 15
RESOLVE_UNIX = 1 << 16

READABLE_TREE = EXECUTE | READ_FILE | READ_DIR
# SECURITY: no MAKE_FIFO, MAKE_CHAR, MAKE_BLOCK: opening one would block, or worse, whoever collects the files.
WRITABLE_TREE = (
    (READABLE_TREE | WRITE_FILE | TRUNCATE | REFER)
    | (REMOVE_DIR | REMOVE_FILE)
    | (MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_SYM)
)
READABLE_FILE = READ_FILE
WRITABLE_FILE = READ_FILE | WRITE_FILE | TRUNCATE

# First ABI that knows the right, the right. All that the kernel knows is denied where no rule allows it.
FILE_RIGHTS = (
    (1, (1 << 13) - 1),
    (2, REFER),
    (3, TRUNCATE),
    (5, IOCTL_DEV),
    # Pathname sockets that were bound outside. No rule ever grants it: the zygote's socket lies in some folder.
    (9, RESOLVE_UNIX),
)
NETWORK_RIGHTS = ((4, 0b11),)  # bind and connect TCP
SCOPES = ((6, 0b11),)  # abstract UNIX sockets of, and signals to, processes outside
# SECURITY: a guest could fill the node's audit log with refusals.
RESTRICT_FLAGS = ((7, 0b101),)  # no log of refusals, nor of those of rules that the guest adds itself

CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1

_ATTRIBUTES = struct.Struct("=QQQ")  # file rights, network rights, scopes: what is denied unless a rule allows it
_PATH_RULE = struct.Struct("=Qi")  # the rights, a descriptor of the folder or file


class Ruleset:
    """Prepared rules. `descriptor` stays with the zygote; a child's copy closes when the child is restricted."""

    __slots__ = ("abi", "denied", "descriptor")

    def __init__(self, descriptor: int, abi: int, denied: Sequence[int]) -> None:
        """`denied`: rights on files, rights on the network, scopes."""
        self.descriptor, self.abi, self.denied = descriptor, abi, denied


def abi() -> int:
    """The kernel's Landlock ABI; 0 where it has none, has it switched off, or a container's profile hides it."""
    try:
        return kernel.system_call("landlock_create_ruleset", "read the Landlock ABI", None, 0, CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def known(table: Iterable[tuple[int, int]], kernel_abi: int) -> int:
    """The bits in a table that a kernel of this ABI knows; others would make it refuse the whole call."""
    return sum(bits for first_abi, bits in table if kernel_abi >= first_abi)


def prepare(
    readable: Iterable[str | bytes] = (),
    writable: Iterable[str | bytes] = (),
    files: Iterable[tuple[str | bytes, int]] = (),
    *,
    scoped: bool = True,
    networked: bool = False,
) -> Ruleset:
    """Rules for folders to read (and run programs from), folders to do everything in, single files with their rights.

    `scoped`: signals and abstract sockets stay inside. `networked`: TCP is left to others to refuse.
    A path stands for what it names now: a folder that is replaced later is another one, and not allowed.
    """
    kernel_abi = abi()
    if kernel_abi < OLDEST_USED_ABI:
        raise OSError(errno.EOPNOTSUPP, f"Landlock ABI {kernel_abi}, need {OLDEST_USED_ABI} (Linux 5.19)")
    tables = [FILE_RIGHTS, () if networked else NETWORK_RIGHTS, SCOPES if scoped else ()]
    denied = [known(table, kernel_abi) for table in tables]
    ruleset = Ruleset(_create(kernel_abi, denied), kernel_abi, denied)
    try:
        _add_all(ruleset, readable, writable, files)
    except BaseException:
        os.close(ruleset.descriptor)
        raise
    return ruleset


def restrict(ruleset: Ruleset) -> dict[str, int]:
    """Put the rules on this thread and its descendants, for good; they add up with rules put on before.

    Needs no_new_privs or CAP_SYS_ADMIN. Returns the ABI and the denied rights, as numbers.
    """
    what = "restrict by Landlock (needs no_new_privs or CAP_SYS_ADMIN)"
    kernel.system_call("landlock_restrict_self", what, ruleset.descriptor, known(RESTRICT_FLAGS, ruleset.abi))
    # SECURITY: with the descriptor a guest could add rules to the set that the zygote's next child gets.
    os.close(ruleset.descriptor)
    files, network, scopes = ruleset.denied
    return {"abi": ruleset.abi, "files": files, "network": network, "scopes": scopes}


def _create(kernel_abi: int, denied: Sequence[int]) -> int:
    # Older kernels take a longer struct than their own as long as what they do not know is zero.
    what = f"create a Landlock ruleset (ABI {kernel_abi})"
    return kernel.system_call("landlock_create_ruleset", what, _ATTRIBUTES.pack(*denied), _ATTRIBUTES.size, 0)


def _add_all(
    ruleset: Ruleset,
    readable: Iterable[str | bytes],
    writable: Iterable[str | bytes],
    files: Iterable[tuple[str | bytes, int]],
) -> None:
    for path in readable:
        _add(ruleset, path, READABLE_TREE)
    for path in writable:
        _add(ruleset, path, WRITABLE_TREE)
    for path, rights in files:
        _add(ruleset, path, rights)


def _add(ruleset: Ruleset, path: str | bytes, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PATH_RULE.pack(rights & known(FILE_RIGHTS, ruleset.abi), descriptor)
        what = f"add a Landlock rule for {os.fsdecode(path)} (rights {rights:#x})"
        kernel.system_call("landlock_add_rule", what, ruleset.descriptor, RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
