"""The template's memory in huge pages: nothing is lost, and it is done where the kernel can."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = f"""
import sys
sys.path[:0] = [{str(ROOT / "pool" / "local")!r}, {str(ROOT / "sandbox-runtime")!r}]
from launcher import huge_pages

def huge_kib():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("AnonHugePages:"))

held = [bytes([number % 251]) * 4000 for number in range(4000)]
before = huge_kib()
huge_pages.gather()
assert held == [bytes([number % 251]) * 4000 for number in range(4000)]
print(before, huge_kib())
"""


def test_what_was_in_small_pages_is_in_huge_ones_and_unchanged() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after > before or not _kernel_can()


def _kernel_can() -> bool:
    """MADV_COLLAPSE came with Linux 6.1, and to x86_64 and aarch64 only where huge pages are built in."""
    major, minor = map(int, Path("/proc/sys/kernel/osrelease").read_text().split(".")[:2])
    return (major, minor) >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage").exists()
