"""What the interpreter does between a script's last line and the death of its process, for a forked child.

The interpreter itself would take down the zygote's libraries too. So the process ends before that, but after
everything that a program can notice: the traceback, the end of threads, `atexit`, the death of its own modules.
Names in brackets are CPython's.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # programs replace functions of `signal`, too
import atexit
import collections
import ctypes
import errno
import functools
import itertools
import mmap
import operator
import posix  # and not `os`, whose functions programs replace to shut doors (`os.kill = None`)
import resource
import sys
import threading

from sandbox_runtime import frameless, last_words
from sandbox_runtime.burial import Burial, lowest_free_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable, NoReturn, TypeGuard

FLUSH_FAILED = 120
"""The exit status of CPython when the last flush of a standard stream fails (`Py_RunMain`)."""

RESERVE_BYTES = 2**20
"""Address space that is given back after the program: else one that ran out of memory could not print its traceback."""

FEW_PROCESSES = 4
"""So near to the limit it counts as met: a cgroup refuses one earlier, and some may have ended since."""

LONGEST_CHAIN = 100
"""Causes of an exception that are looked at: a chain may be a ring."""

_end_threads = threading._shutdown  # type: ignore[attr-defined]  # what the interpreter calls, too
_monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
TOOLS = 6
_flush_c_streams = functools.partial(ctypes.CDLL(None).fflush, None)


class Ending:
    """The end of one program: what is known of it so far, and the steps that are left.

    The program's namespace and its exception are given up as soon as they have served: what they hold is to die.
    """

    def __init__(self, namespace: dict[str, object], folder: str, report: Callable[[int, list[str]], None]) -> None:
        self._namespace, self._report = namespace, report
        self._burial = Burial(folder)
        self._last_flush = last_words.LastFlush()
        self._hook_calls = [frameless.DONE]
        self._reserve = mmap.mmap(-1, RESERVE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._error: BaseException | None = None
        # SECURITY: until it is known that the program raised nothing, it has failed (tests/unit/test_ending.py).
        self._status = 1
        self._interrupted = self._left = False
        self._limits_hit: list[str] = []

    def begin(self) -> None:
        """To be called just before the program runs."""
        self._burial.begin()

    def after(self, calls: list[frameless.Call]) -> frameless.Step:
        """Something that makes the program's calls and ends the process. For C to call, with an empty stack."""
        return frameless.in_turn(
            frameless.caught(frameless.calls(calls), self._judge, *_untraced(), self._reserve.close, calls.clear),
            frameless.caught(frameless.calls(self._hook_calls), self._judge_the_hook),
            *(frameless.unraisable(_end_threads, threading), atexit._run_exitfuncs),
            *(self._last_flush.prepare, frameless.calls(self._last_flush.calls), self._judge_the_flush),
            *self._burial.steps(),
            *(_flush_c_streams, self._die_if_interrupted, self._leave),
        )

    def _judge(self, error: BaseException | None) -> None:
        """What the program raised: find the exit status, and who is to print the traceback (`_PyErr_PrintEx`)."""
        last_words.flush_quietly()
        if error is None:
            self._status = 0
        else:
            self._interrupted = type(error) is KeyboardInterrupt
            if not self._has_left(error):
                self._announce(error)
        self._limits_hit = limits_hit(error)

    def _has_left(self, error: BaseException) -> bool:
        if _is_system_exit(error):
            self._status = last_words.system_exit_status(error)
            self._left = True
        return self._left

    def _announce(self, error: BaseException) -> None:
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        hook = getattr(sys, "excepthook", last_words.display)
        if not hasattr(sys, "excepthook"):
            last_words.write_stderr("sys.excepthook is missing\n")
        if callable(hook):
            self._error = error
            call: frameless.Call = functools.partial(hook, type(error), error, error.__traceback__)
            self._hook_calls.insert(0, call)
        else:
            last_words.print_both(error, TypeError(f"{type(hook).__name__!r} object is not callable"))

    def _judge_the_hook(self, in_hook: BaseException | None) -> None:
        """What `sys.excepthook` raised, if it was called at all."""
        self._hook_calls.clear()
        error, self._error = self._error, None
        if in_hook is not None and error is not None and not self._has_left(in_hook):
            last_words.print_both(error, in_hook)
        if not self._left:  # threads and `atexit` handlers do without (`_PyRun_SimpleFileObject`)
            self._namespace.pop("__file__", None)
            self._namespace.pop("__cached__", None)
        self._namespace = {}

    def _judge_the_flush(self) -> None:
        if self._last_flush.failed():
            self._status = FLUSH_FAILED

    def _die_if_interrupted(self) -> None:
        """An uncaught KeyboardInterrupt ends Python by SIGINT itself (`exit_sigint`)."""
        if self._interrupted and not self._left:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
            posix.kill(posix.getpid(), _signal.SIGINT)

    def _leave(self) -> NoReturn:
        try:
            self._report(self._status, self._limits_hit)
        finally:
            posix._exit(self._status)


def _untraced(monitoring: Any = _monitoring) -> tuple[frameless.Step, ...]:
    """The end of what sees the program run. For C to call: it would see a function of ours, and may raise in it.

    Tools keep their numbers: `cProfile` gives its own back, in an `atexit` callback perhaps, and raises if it is gone.
    """
    steps = functools.partial(sys.settrace, None), functools.partial(sys.setprofile, None)
    if monitoring is None:
        return steps
    blinded = map(monitoring.set_events, _used_tools(monitoring), itertools.repeat(0))
    return (*steps, functools.partial(collections.deque, blinded, 0))


def _used_tools(monitoring: Any) -> Iterator[int]:
    """Those that are in use when they are asked for. An empty name is one, too."""
    names = map(monitoring.get_tool, range(TOOLS))
    return itertools.compress(range(TOOLS), map(operator.is_not, names, itertools.repeat(None)))


def _is_system_exit(error: BaseException) -> TypeGuard[SystemExit]:
    # By its type: an object may lie about its `__class__`.
    return issubclass(type(error), SystemExit)


_LIMIT_OF = {
    errno.ENOSPC: "disk",
    errno.EDQUOT: "disk",
    errno.EFBIG: "file_size",
    errno.EMFILE: "open_files",
    errno.ENOMEM: "memory",
}
_errno_of, _args_of = vars(OSError)["errno"].__get__, vars(BaseException)["args"].__get__
_NO_THREAD = "can't start new thread"
"""What the interpreter says, with no number, when the kernel refuses a thread."""


def limits_hit(error: BaseException | None) -> list[str]:
    """The limits that a program met, as far as they show: in the exception that ended it, or in its open files."""
    hit = {limit for each in _chain(error) if (limit := _limit_behind(each))}
    return sorted(hit | {"open_files"} if lowest_free_descriptor() is None else hit)


def _limit_behind(error: BaseException) -> str | None:
    # By its type, and by nothing that a class of the program's could answer: an object may lie about its `__class__`.
    kind = type(error)
    if issubclass(kind, OSError):
        number = _errno_of(error)
        return _LIMIT_OF.get(number) if type(number) is int else None
    if issubclass(kind, MemoryError):
        return "memory"
    words = _args_of(error)
    if kind is RuntimeError and len(words) == 1 and type(words[0]) is str and words[0] == _NO_THREAD:
        return "processes" if _is_at_the_process_limit() else "memory"
    return None


def _is_at_the_process_limit() -> bool:
    """Else it was the memory for one more stack that could not be had."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    try:
        pids = [pid for pid in posix.listdir("/proc") if pid.isdigit()]
        return sum(len(posix.listdir(f"/proc/{pid}/task")) for pid in pids) >= most - FEW_PROCESSES
    except OSError:  # one of them has just ended
        return True


def _chain(error: BaseException | None) -> list[BaseException]:
    """The exception and what it came from."""
    chain: list[BaseException] = []
    while error is not None and len(chain) < LONGEST_CHAIN:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
