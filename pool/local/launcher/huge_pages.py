"""Gathers the template's memory in huge pages, so that its forks copy one entry for 2 MiB and not 512.

A sandbox is two forks of some 70 MiB and their ends: so it takes 29 ms of CPU, and 34 otherwise (2 cores, the two taken
in turns). A page that a fork writes to is copied as ever, and nothing but that page.
"""

from __future__ import annotations

from sandbox_runtime import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HUGE_BYTES = 2 * 2**20
"""On x86_64; elsewhere, where huge pages are larger, the kernel refuses pieces of this size."""

MADV_COLLAPSE = 25  # Linux 6.1; whatever the machine's setting for huge pages is


def gather() -> None:
    """What cannot be gathered stays as it is."""
    for address in _aligned():
        try:
            kernel.libc_call("madvise", "gather a huge page", address, HUGE_BYTES, MADV_COLLAPSE)
        except OSError:  # none free, a hole in this one, or a kernel that cannot
            continue


def _aligned() -> Iterator[int]:
    for low, high in _private_memory():
        yield from range(-(-low // HUGE_BYTES) * HUGE_BYTES, high - HUGE_BYTES + 1, HUGE_BYTES)


def _private_memory() -> list[tuple[int, int]]:
    """The writable memory of this process that is of no file, from /proc/self/maps."""
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps]
    ranges = [line[0].split("-") for line in lines if line[1] == "rw-p" and line[5:] in ([], ["[heap]"])]
    return [(int(low, 16), int(high, 16)) for low, high in ranges]
