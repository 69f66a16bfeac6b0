"""What the interpreter says when a script ends, and the exit status that goes with it.

The names in brackets are CPython's (Python/pythonrun.c, Python/pylifecycle.c), whose order and quirks these follow:
`sys.stderr` may be closed, gone, or an object of the program's.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import operator
import posix
import sys

from sandbox_runtime import frameless

display = sys.__excepthook__


def system_exit_status(leaving: SystemExit) -> int:
    """The status, its message printed (`_Py_HandleSystemExit`)."""
    code: object = leaving
    with contextlib.suppress(Exception):  # it may be a property of the program's
        code = leaving.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(2**63) <= code < 2**63 else 0xFF
    _write_object(code)
    write_stderr("\n")
    return 1


def _write_object(value: object) -> None:
    with contextlib.suppress(Exception):  # nothing is said where its `__str__` raises
        text = str(value)
        if getattr(sys, "stderr", None) is None:
            _write_descriptor(text)
        else:
            sys.stderr.write(text)


def write_stderr(text: str) -> None:
    """`PySys_WriteStderr`: what `sys.stderr` does not take the descriptor does."""
    try:
        sys.stderr.write(text)
    except Exception:
        _write_descriptor(text)


def _write_descriptor(text: str) -> None:
    with contextlib.suppress(OSError):  # closed too
        posix.write(2, text.encode("utf-8", "backslashreplace"))


def print_both(error: BaseException, in_hook: BaseException) -> None:
    """The end of `_PyErr_PrintEx`, when the program's `sys.excepthook` has raised."""
    write_stderr("Error in sys.excepthook:\n")
    display(type(in_hook), in_hook, in_hook.__traceback__)
    write_stderr("\nOriginal exception was:\n")
    display(type(error), error, error.__traceback__)


def flush_quietly() -> None:
    """What follows a script's last line (`flush_io`)."""
    for name in ("stderr", "stdout"):
        with contextlib.suppress(BaseException):
            getattr(sys, name).flush()


class LastFlush:
    """The last flush (`flush_std_files`): first `prepare`, then the calls, then see what has `failed`.

    The calls are for C to make: what fails at stdout is reported, with no frame of ours in it.
    """

    def __init__(self) -> None:
        self.calls: list[frameless.Call] = []
        self._flushed: list[str] = []
        self._asked: list[str] = []

    def prepare(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name, None)
            if stream is not None and not _is_closed(stream):
                self._asked.append(name)
                self.calls.append(functools.partial(self._flush(name, stream)))
        self.calls.append(frameless.DONE)

    def _flush(self, name: str, stream: object) -> frameless.Step:
        flush = functools.partial(operator.methodcaller("flush"), stream)
        note = functools.partial(self._flushed.append, name)
        both: frameless.Call = functools.partial(collections.deque, map(functools.partial.__call__, [flush, note]), 0)
        return frameless.unraisable(both, stream) if name == "stdout" else frameless.caught(both, _drop)

    def failed(self) -> bool:
        self.calls.clear()
        return self._flushed != self._asked


def _drop(error: BaseException | None) -> None:
    return


def _is_closed(stream: object) -> bool:
    try:
        return bool(stream.closed)  # type: ignore[attr-defined]
    except Exception:
        return False
