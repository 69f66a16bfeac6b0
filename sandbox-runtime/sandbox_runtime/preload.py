"""Loads the libraries that programs import, and exercises them, so that the first use is not the slow one."""

from __future__ import annotations

import gc
import importlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

STANDARD = ("ast", "asyncio", "collections", "csv", "datetime", "decimal", "io", "json", "logging", "math",
            "multiprocessing", "random", "re", "statistics", "string", "subprocess", "tempfile", "textwrap",
            "threading", "traceback", "typing", "uuid")  # fmt: skip


MOST_NAMES, LONGEST_NAME_CHARS = 64, 64
"""What a hello can tell (`sandbox_runtime/wire.py`)."""


class PreloadFailed(Exception):
    """The message is for the operator."""


def load(needed: list[str], if_there: list[str]) -> list[str]:
    """Import both, the second as far as they are there; returns the names of all that are loaded.

    The caller has one thread, and so has it afterwards. Raises `PreloadFailed`.
    """
    gc.disable()
    if len(needed) > MOST_NAMES or any(len(name) > LONGEST_NAME_CHARS for name in needed):
        raise PreloadFailed(f"at most {MOST_NAMES} modules of {LONGEST_NAME_CHARS} characters each can be preloaded")
    loaded = [name for name in if_there if _import(name, needed=False)]
    loaded += [name for name in needed if _import(name, needed=True)]
    for name in loaded:
        _rehearse(name)
    # Without it a collection in a child writes to every page that it shares: 17 instead of 157 sandboxes a second.
    gc.collect()
    gc.freeze()
    return loaded


def _import(name: str, needed: bool) -> bool:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if needed:
            raise PreloadFailed(f"{name} cannot be preloaded: {error}") from error
        return False
    except BaseException as error:  # SystemExit too: a module may do anything
        raise PreloadFailed(f"{name} cannot be preloaded: {type(error).__name__}: {error}") from error
    _refuse_threads(name)
    return True


def _rehearse(name: str) -> None:
    rehearsal = _REHEARSALS.get(name)
    if rehearsal is None:
        return
    try:
        rehearsal(sys.modules[name])
    except Exception as error:
        raise PreloadFailed(f"{name} was preloaded but does not work: {type(error).__name__}: {error}") from error
    _refuse_threads(name)


def _refuse_threads(name: str) -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise PreloadFailed(
            f"{name} starts threads ({threads} run): a fork takes only one along, so it cannot be preloaded"
        )


def _pandas(pandas: ModuleType) -> None:
    import io

    frame = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"], "c": [0.1, 0.2, 0.3]})
    frame.groupby("b").a.agg(["sum", "mean", "count"]).to_string()
    frame.groupby("b").a.mean().to_string()
    frame.describe().to_string()
    repr(frame)
    pandas.read_csv(io.StringIO(frame.to_csv()))
    frame.merge(frame, on="b")
    pandas.to_datetime(["2024-01-01"])


def _numpy(numpy: ModuleType) -> None:
    numpy.random.default_rng()
    numpy.linalg.inv(numpy.eye(3))


def _pyplot(_: ModuleType) -> None:
    import io

    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    axes.plot([1, 2], [3, 4], label="x")
    axes.set_title("t")
    axes.legend()
    figure.savefig(io.BytesIO(), format="png")
    pyplot.close("all")


_REHEARSALS = {"pandas": _pandas, "numpy": _numpy, "matplotlib": _pyplot}
