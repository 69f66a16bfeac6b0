"""The template's memory, made cheap to fork and small to keep.

Gathered in huge pages: its forks copy one entry for 2 MiB and not 512. A sandbox is two forks of some 70 MiB and their
ends: so it takes 29 ms of CPU, and 34 otherwise (2 cores, taken in turns). A page that a fork writes to is copied
as ever, and nothing but that page.
"""

from __future__ import annotations

from sandbox_runtime import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

HUGE_BYTES = 2 * 2**20
"""On x86_64; elsewhere, where huge pages are larger, the kernel refuses pieces of this size."""

MADV_DONTNEED = 4
MADV_COLLAPSE = 25  # Linux 6.1; whatever the machine's setting for huge pages is


def gather() -> None:
    """What cannot be gathered stays as it is."""
    for address in _aligned():
        try:
            kernel.libc_call("madvise", "gather a huge page", address, HUGE_BYTES, MADV_COLLAPSE)
        except OSError:  # none free, a hole in this one, or a kernel that cannot
            continue


def let_go_of_code() -> None:
    """Forget the pages of code that only imports ran: a fork finds those that it needs in the page cache, as it would
    have to anyway. Some 15 MiB less of this process."""
    for low, high in _mappings(lambda kind, name: kind == "r-xp" and name.startswith("/")):
        kernel.libc_call("madvise", "let go of code", low, high - low, MADV_DONTNEED)


def _aligned() -> Iterator[int]:
    for low, high in _mappings(lambda kind, name: kind == "rw-p" and name in ("", "[heap]")):
        yield from range(-(-low // HUGE_BYTES) * HUGE_BYTES, high - HUGE_BYTES + 1, HUGE_BYTES)


def _mappings(wanted: Callable[[str, str], bool]) -> list[tuple[int, int]]:
    """From /proc/self/maps, by their rights and the name of their file."""
    with open("/proc/self/maps") as maps:
        lines = [line.split(maxsplit=5) for line in maps]
    ranges = [line[0].split("-") for line in lines if wanted(line[1], "".join(line[5:]).strip())]
    return [(int(low, 16), int(high, 16)) for low, high in ranges]
