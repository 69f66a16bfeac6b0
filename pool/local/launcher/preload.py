"""Loads the libraries that programs import, and exercises them, so that the first use is not the slow one."""

from __future__ import annotations

import gc
import importlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

STANDARD = ("ast", "asyncio", "collections", "csv", "datetime", "decimal", "io", "json", "logging", "math",
            "multiprocessing", "random", "re", "statistics", "string", "subprocess", "tempfile", "textwrap",
            "threading", "traceback", "typing", "unittest.mock", "urllib.request", "uuid")  # fmt: skip


def load(names: list[str]) -> list[str]:
    """Import what is there; returns the names that could be. The caller has one thread, and so has it afterwards."""
    gc.disable()
    loaded = [name for name in names if _import(name)]
    for name in loaded:
        rehearse = _REHEARSALS.get(name)
        if rehearse is not None:
            rehearse()
    # Without it a collection in a child writes to every page that it shares: 17 instead of 157 sandboxes a second.
    gc.collect()
    gc.freeze()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise SystemExit(
            f"preloading {', '.join(names)} started threads: {threads} run, one may (a fork takes only one along)"
        )
    return loaded


def _import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _pandas() -> None:
    import io

    import pandas  # type: ignore[import-untyped]  # of the programs' environment

    frame = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"], "c": [0.1, 0.2, 0.3]})
    frame.groupby("b").a.agg(["sum", "mean", "count"]).to_string()
    frame.groupby("b").a.mean().to_string()
    frame.describe().to_string()
    repr(frame)
    pandas.read_csv(io.StringIO(frame.to_csv()))
    frame.merge(frame, on="b")
    pandas.to_datetime(["2024-01-01"])


def _numpy() -> None:
    import numpy  # type: ignore[import-not-found]  # of the programs' environment

    numpy.random.default_rng()
    numpy.linalg.inv(numpy.eye(3))


def _pyplot() -> None:
    import io

    from matplotlib import pyplot  # type: ignore[import-not-found]  # of the programs' environment

    figure, axes = pyplot.subplots()
    axes.plot([1, 2], [3, 4], label="x")
    axes.set_title("t")
    axes.legend()
    figure.savefig(io.BytesIO(), format="png")
    pyplot.close("all")


_REHEARSALS = {"pandas": _pandas, "numpy": _numpy, "matplotlib": _pyplot}
