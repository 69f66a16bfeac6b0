"""What one process of a guest may use of the kernel's countable things, as data, and the call that sets it.

Each limit is set soft and hard to the same number: the program cannot raise it again. Not here: CPU time (the wall
clock and the cgroup govern it), the stack (threads take their size from it), address space (Python and numpy reserve
far more than they use).
"""

from __future__ import annotations

import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Limit:
    """One row: the kernel's name, what the caller calls it (None: the same `fixed` number for all), and why."""

    __slots__ = ("asked_as", "fixed", "name", "why")

    def __init__(self, name: str, asked_as: str | None, why: str, fixed: int = 0) -> None:
        self.name = name
        self.asked_as = asked_as
        self.why = why
        self.fixed = fixed

    @property
    def number(self) -> int:
        return int(getattr(resource, f"RLIMIT_{self.name}"))


MAIN_STACK_BYTES = 8 * 2**20
THREAD_STACK_BYTES = 2 * 2**20
"""The C library gives every thread the stack limit of the moment when a process is exec'd, 8 MiB as a rule, and
all of it counts against a program's memory (RLIMIT_DATA): 31 idle threads would be too many. Less than 1 MiB
would overflow in honest recursions; a template raises the limit again for main threads."""


def limit_stack(soft_bytes: int) -> None:
    """Set the soft limit of the stack, within the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    allowed = soft_bytes if hard == resource.RLIM_INFINITY else min(soft_bytes, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (allowed, hard))


def take_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one.

    SECURITY: descriptors on their way are counted for a uid on its whole node, against the sender's soft limit: guests
    of other pods could keep a supervisor with one no higher than theirs from arming a child (unix(7), ETOOMANYREFS)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


LIMITS = (
    # 1 and not 0: where core_pattern is a pipe (apport, systemd-coredump), the kernel heeds no other limit (core(5)).
    Limit("CORE", None, "a dump would fill the workspace, or feed the guest's bytes to the node's crash handler", 1),
    Limit("MSGQUEUE", None, "message queues outlive the program"),
    Limit("MEMLOCK", None, "locked pages cannot be taken back when memory is short"),
    Limit("RTPRIO", None, "a real-time thread would starve the supervisor; some container runtimes leave this open"),
    Limit("NICE", None, "the child runs at nice 19 and stays there"),
    Limit("NOFILE", "open_files", "each open file is kernel memory"),
    # SIGXFSZ must stay ignored (Python's default): the program then gets EFBIG, otherwise it dies without a word.
    Limit("FSIZE", "file_size_bytes", "truncate(1 << 40) costs nothing and the collector would read it all"),
    # Counts a uid across all pods of a node: only where the sandbox has a uid of its own.
    Limit("NPROC", "processes", "a fork bomb"),
    Limit("DATA", "data_bytes", "a MemoryError the program can handle, before the memory watch ends the run"),
)


def apply(
    open_files: int,
    file_size_bytes: int,
    processes: int | None = None,
    data_bytes: int | None = None,
) -> dict[str, int]:
    """Limit this process and its descendants; returns what was set. None leaves a limit as it is.

    `data_bytes` is on top of what the process has now: modules loaded before the fork are not the program's.
    """
    asked = {"open_files": open_files, "file_size_bytes": file_size_bytes, "processes": processes}
    asked["data_bytes"] = None if data_bytes is None else data_in_use_bytes() + data_bytes
    return {limit.name: _lower(limit.number, value) for limit, value in _wanted(asked)}


def data_in_use_bytes() -> int:
    """What the kernel compares with RLIMIT_DATA: private writable memory, touched or not, of this process alone.

    And the stack, about 100 KiB: statm counts them together, and is read in a tenth of the time that status takes.
    """
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[5]) * resource.getpagesize()


def _wanted(asked: dict[str, int | None]) -> Iterator[tuple[Limit, int]]:
    for limit in LIMITS:
        value = limit.fixed if limit.asked_as is None else asked[limit.asked_as]
        if value is not None:
            yield limit, value


def _lower(number: int, value: int) -> int:
    _, hard = resource.getrlimit(number)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(number, (allowed, allowed))
    return allowed
