"""`python -m benchmarks [--quick] [NAME…]`: measure, print the table, keep the figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Coroutine

import uvloop

from benchmarks import endurance, flood, latency, machine, memory, neighbours, report, throughput
from benchmarks.rows import Row
from benchmarks.scale import FULL, QUICK, Scale

BENCHMARKS: dict[str, Callable[[Scale], Coroutine[None, None, list[Row]]]] = {
    "health": latency.health,
    "print": latency.first_print,
    "group-by": latency.first_group_by,
    "sustained": throughput.sustained,
    "hogs": neighbours.beside_hogs,
    "bursts": neighbours.bursts,
    "sleepers": neighbours.sleepers,
    "flood": flood.beside_a_flood,
    "memory": memory.idle,
    "runs": endurance.many_runs,
}


def main() -> int:
    asked = _asked()
    about, began = machine.block(), time.monotonic()
    rows: list[Row] = []
    for name in asked.names or BENCHMARKS:
        print(f"{name} …", flush=True)
        rows += uvloop.run(BENCHMARKS[name](QUICK if asked.quick else FULL))
    seconds = time.monotonic() - began
    print(f"\n{report.table(rows)}\n\n{seconds:.0f} s on {machine.kind()}, load before {about['load_average_before']}")
    if not (asked.quick or asked.names):
        print(f"Kept in {report.save(rows, about, seconds)}")
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; no file is kept")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)}")
    asked = parser.parse_args()
    for name in asked.names:
        if name not in BENCHMARKS:
            parser.error(f"{name} is no benchmark")
    return asked


if __name__ == "__main__":
    raise SystemExit(main())
