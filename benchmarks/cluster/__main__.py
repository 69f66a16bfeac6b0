"""`python -m benchmarks.cluster [--quick] [--rows NAME,…]`: measure on the test cluster, print the table, keep it."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import msgspec
import uvloop

from benchmarks import machine, report
from benchmarks.cluster import bursts, cache, ping, warm
from benchmarks.cluster.ground import Ground, ground
from benchmarks.cluster.scale import FULL, QUICK, Scale
from benchmarks.rows import Row

BENCHMARKS: dict[str, Callable[[Ground, Scale], Coroutine[None, None, list[Row]]]] = {
    "warm": warm.reused,
    "single": warm.single,
    "ping": ping.ping,
    "burst": bursts.bursts,
    "sustained": bursts.sustained,
    "cache": cache.cache,
}


def main() -> int:
    asked = arguments()
    about, began = machine.block(), time.monotonic()
    rows: list[Row] = []
    with ground(asked.image) as found:
        about["cluster"] = found.about()
        for name in asked.rows:
            print(f"{name} …", flush=True)
            rows += uvloop.run(BENCHMARKS[name](found, QUICK if asked.quick else FULL))
    seconds = time.monotonic() - began
    print(f"\n{report.table(rows)}\n\n{seconds:.0f} s on {machine.kind()}, load before {about['load_average_before']}")
    if not asked.quick and asked.rows == list(BENCHMARKS):
        print(f"Kept in {save(rows, about, seconds)}")
    return 0


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; no file is kept")
    parser.add_argument("--rows", default=list(BENCHMARKS), type=_rows, help=f"by comma, of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--image", help="an executor image that the node has; unset: one is built of this tree")
    return parser.parse_args(words)


def _rows(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(BENCHMARKS):
        raise argparse.ArgumentTypeError(f"no benchmark: {', '.join(sorted(unknown))}")
    return names


def save(rows: Sequence[Row], about: dict[str, object], seconds: float, folder: Path = report.FOLDER) -> Path:
    """Write the file of this run, beside those of the local backend."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}-{machine.kind()}-cluster.json"
    kept = [{**msgspec.to_builtins(row), "met": row.met} for row in rows]
    body = {"machine": about, "seconds": seconds, "rows": kept}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")
    return path


if __name__ == "__main__":
    raise SystemExit(main())
