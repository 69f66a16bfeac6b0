"""Calls that the interpreter's C code makes: what is called finds no frame of ours below its own.

A program may look at its own stack (`inspect.stack()`, `warnings.warn(stacklevel=2)`, an `atexit` callback
that logs its caller), and what it finds there must be what `python /workspace/__main__.py` shows.
"""

from __future__ import annotations

import functools
import io
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Call = functools.partial[object]

DONE: Call = functools.partial(bool, True)
"""Ends a list of calls for `calls`."""


def calls(listed: list[Call]) -> Callable[[], object]:
    """A callable that makes the calls in a list, as it is then, up to the first that raises or returns something true.

    The list ends with DONE: a StopIteration that comes out is then one that a call raised.
    """
    return functools.partial(next, filter(None, map(functools.partial.__call__, listed)))


def in_turn(*steps: Callable[[], object]) -> Callable[[], object]:
    """A callable that calls each of the steps, whatever the others raise.

    What one raises is the `__context__` of what the next raises, and is lost when that one raises nothing.
    """
    return functools.reduce(_both, steps)


def _both(first: Callable[[], object], then: Callable[[], object]) -> Callable[[], object]:
    # `close` of a BufferedReader is a try/finally in C: it calls `self.flush()`, puts aside what that raises, and
    # calls `raw.close()` (Modules/_io/bufferedio.c; the same from Python 3.9 to 3.13, tests/contract/test_other_pythons.py).
    raw = types.SimpleNamespace(closed=False, readable=DONE, close=then)
    buffered = type("_Both", (io.BufferedReader,), {"flush": staticmethod(first)})
    return buffered(raw, 1).close  # type: ignore[no-any-return, operator]  # mypy does not follow type()


def unraisable(call: Callable[[], object], blamed: object) -> Callable[[], object]:
    """A callable that makes a call whose exception is only reported: "Exception ignored in: <blamed>"."""

    class Blaming(functools.partial):  # type: ignore[type-arg]
        def __repr__(self) -> str:
            return repr(blamed)

    # Made and dropped at once: the interpreter calls `__del__`, and reports what it raises.
    return type("_Dropped", (), {"__del__": staticmethod(Blaming(call))})
