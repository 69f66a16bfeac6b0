"""The template's memory, gathered and let go: nothing is lost, and it is done where the kernel can."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = f"""
import sys
sys.path[:0] = [{str(ROOT / "pool" / "local")!r}, {str(ROOT / "sandbox-runtime")!r}]
from sandbox_runtime import template_memory

def huge_kib():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("AnonHugePages:"))

def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssFile:"))

held = [bytes([number % 251]) * 4000 for number in range(4000)]
before = huge_kib()
template_memory.gather()
assert held == [bytes([number % 251]) * 4000 for number in range(4000)]
before_code = resident_kib()
template_memory.let_go_of_code()
assert held == [bytes([number % 251]) * 4000 for number in range(4000)]
print(before, huge_kib(), before_code, resident_kib())
"""


def test_memory_is_in_huge_pages_and_code_is_let_go_and_all_is_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    huge, huge_after, code, code_after = map(int, done.stdout.split())
    assert huge_after > huge or not _kernel_can()
    assert code_after < code


def _kernel_can() -> bool:
    """MADV_COLLAPSE came with Linux 6.1, and to x86_64 and aarch64 only where huge pages are built in."""
    major, minor = map(int, Path("/proc/sys/kernel/osrelease").read_text().split(".")[:2])
    return (major, minor) >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage").exists()
