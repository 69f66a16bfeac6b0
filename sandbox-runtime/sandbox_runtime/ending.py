"""What the interpreter does between a script's last line and the death of its process, for a forked child.

The interpreter itself would take down the zygote's libraries too, which takes longer than most programs run.
So the process ends before that, but after everything that a program can notice: the traceback, the end of
threads, `atexit`, the death of its own modules. Names in brackets are CPython's (Python/pylifecycle.c).
"""

from __future__ import annotations

import _signal
import atexit
import builtins
import contextlib
import ctypes
import errno
import functools
import gc
import io
import itertools
import posix  # and not `os`, whose functions programs replace to shut doors (`os.kill = None`)
import signal
import sys
import threading
import types
import weakref

from sandbox_runtime import frameless, last_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

FLUSH_FAILED = 120
"""The exit status of CPython when the last flush of a standard stream fails (`Py_RunMain`)."""

_GONE_FIRST = ("path", "argv", "ps1", "ps2", "last_type", "last_value", "last_traceback", "last_exc", "path_hooks",
               "path_importer_cache", "meta_path", "__interactivehook__")  # fmt: skip
"""Attributes of `sys` that die before the modules (`finalize_modules_delete_special`)."""

_HOOKS = ("excepthook", "unraisablehook", "displayhook", "breakpointhook")

_flush_c_streams = ctypes.CDLL(None).fflush


class Ending:
    """The end of one program: what is known of it so far, and the steps that are left.

    No reference of ours to the program's namespace or to its exception may outlive the step that needs it:
    what they hold could not die.
    """

    def __init__(self, calls: list[frameless.Call], folder: str, report: Callable[[int, list[str]], None]) -> None:
        self._calls, self._folder, self._report = calls, folder, report
        self._modules_before = len(sys.modules)
        self._status = 0
        self._limits_hit: list[str] = []
        self._interrupted = False
        self._error: BaseException | None = None
        self._hook_calls = [frameless.DONE]
        self._last_flush = last_words.LastFlush()
        self._buried: dict[str, None] = {}
        self._loaders: list[weakref.ref[object]] = []

    def steps(self) -> Callable[[], object]:
        """A callable that makes the program's calls and ends the process. For C to call, with an empty stack."""
        return frameless.in_turn(
            frameless.caught(frameless.calls(self._calls), self._judge),
            frameless.caught(frameless.calls(self._hook_calls), self._judge_the_hook),
            *(frameless.unraisable(threading._shutdown, threading), atexit._run_exitfuncs),
            *(self._last_flush.prepare, frameless.calls(self._last_flush.calls), gc.collect, self._prepare_burial),
            *(functools.partial(sys.modules.update, self._buried), gc.collect, self._bury_survivors),
            self._leave,
        )

    # --- what it raised

    def _judge(self, error: BaseException | None) -> None:
        """Find the exit status, and who is to print the traceback (`_PyErr_PrintEx`)."""
        self._calls.clear()
        last_words.flush_quietly()
        if isinstance(error, SystemExit):
            self._status = last_words.system_exit_status(error)
        elif error is not None:
            self._status = 1
            self._interrupted = type(error) is KeyboardInterrupt
            self._announce(error)
        self._limits_hit = limits_hit(error)

    def _announce(self, error: BaseException) -> None:
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        hook = getattr(sys, "excepthook", last_words.display)
        if not hasattr(sys, "excepthook"):
            last_words.write_stderr("sys.excepthook is missing\n")
        if callable(hook):
            self._error = error
            self._hook_calls.insert(0, functools.partial(hook, type(error), error, error.__traceback__))
        else:
            last_words.print_both(error, TypeError(f"{type(hook).__name__!r} object is not callable"))

    def _judge_the_hook(self, in_hook: BaseException | None) -> None:
        error, self._error = self._error, None
        self._hook_calls.clear()
        if isinstance(in_hook, SystemExit):
            self._status = last_words.system_exit_status(in_hook)
        elif in_hook is not None and error is not None:
            last_words.print_both(error, in_hook)

    # --- its modules

    def _prepare_burial(self) -> None:
        if self._last_flush.failed():
            self._status = FLUSH_FAILED
        gc.callbacks.clear()  # not called any more at this stage
        vars(builtins).pop("open", None)  # as `finalize_restore_builtins_dict` does
        _reset_signal_handlers()
        for name in _GONE_FIRST:
            setattr(sys, name, None)
        for name in ("stdin", "stdout", "stderr"):
            setattr(sys, name, getattr(sys, f"__{name}__", None))
        sys.is_finalizing = frameless.DONE  # type: ignore[assignment]  # `__del__` methods ask
        own = self._own_modules()
        # Without `io` tracebacks show no source lines any more, as is right at this stage.
        self._buried.update(dict.fromkeys([*own, "io"]))
        loaders = [module.__dict__.get("__loader__") for module in own.values()]
        self._loaders = [weakref.ref(loader) for loader in loaders if loader is not None]

    def _own_modules(self) -> dict[str, types.ModuleType]:
        """`__main__` and what came from the workspace, by name; a library's modules need no burial.

        Only those imported since the fork are looked at: touching each of the zygote's 1 500 modules copies
        the page that it is on, 3 ms in all.
        """
        later = max(0, len(sys.modules) - self._modules_before)
        latest = [*itertools.islice(reversed(sys.modules.items()), later)]
        modules = dict([("__main__", sys.modules.get("__main__")), *reversed(latest)])
        return {name: module for name, module in modules.items() if self._is_own(module)}

    def _is_own(self, module: object) -> bool:
        return isinstance(module, types.ModuleType) and str(module.__dict__.get("__file__")).startswith(self._folder)

    def _bury_survivors(self) -> None:
        """Clear the modules that something still holds: a hook, or a function put into a module of the zygote's."""
        if any(reference() is not None for reference in self._loaders):
            _drop_hooks()
        for loader in filter(None, [reference() for reference in self._loaders]):
            for namespace in gc.get_referrers(loader):
                if isinstance(namespace, dict) and namespace.get("__loader__") is loader:
                    _clear(namespace)
        gc.collect()

    # --- its process

    def _leave(self) -> NoReturn:
        _flush_open_files()
        _flush_c_streams(None)
        if self._interrupted:
            die_of_interrupt()
        self._report(self._status, self._limits_hit)
        posix._exit(self._status)


_LASTING = (type, types.FunctionType, types.ModuleType)


def _clear(namespace: dict[str, object]) -> None:
    """Let the values go, last of all what a `__del__` may need: functions, classes, modules."""
    names = [name for name in namespace if name != "__builtins__"]
    for name in sorted(names, key=lambda name: isinstance(namespace[name], _LASTING)):
        namespace[name] = None


def _drop_hooks() -> None:
    """`sys` dies last, and with it what its hooks hold, when nothing can be printed any more."""
    changed = [name for name in _HOOKS if getattr(sys, name, None) is not getattr(sys, f"__{name}__", None)]
    if changed:
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        for name in changed:
            setattr(sys, name, None)
        gc.collect()


def _reset_signal_handlers() -> None:
    """`_PySignal_Fini`: what handlers hold dies with the rest."""
    for number in range(1, signal.NSIG):
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)


def _flush_open_files() -> None:
    """Write out what files hold that something of the zygote's keeps from dying."""
    if _lowest_free_descriptor() == FIRST_DESCRIPTOR:
        return
    for kind in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
        for file in gc.get_objects():
            if isinstance(file, kind):
                with contextlib.suppress(Exception):
                    file.flush()


def die_of_interrupt() -> NoReturn:
    """An uncaught KeyboardInterrupt ends Python by SIGINT itself (`exit_sigint`, Modules/main.c)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    posix.kill(posix.getpid(), signal.SIGINT)
    posix._exit(128 + signal.SIGINT)


LONGEST_CHAIN = 100
FIRST_DESCRIPTOR = 3
"""The lowest that a file can have while the standard streams are open."""

_LIMIT_OF = {
    errno.ENOSPC: "disk",
    errno.EDQUOT: "disk",
    errno.EFBIG: "file_size",
    errno.EMFILE: "open_files",
}


def limits_hit(error: BaseException | None) -> list[str]:
    """The limits that a program met, as far as they show: in the exception that ended it, or in its open files."""
    numbers = {each.errno for each in _chain(error) if isinstance(each, OSError)}
    hit = {_LIMIT_OF[number] for number in numbers if number in _LIMIT_OF}
    return sorted(hit | {"open_files"} if _lowest_free_descriptor() is None else hit)


def _chain(error: BaseException | None) -> list[BaseException]:
    """The exception and what it came from; no further than LONGEST_CHAIN, for a chain may be a ring."""
    chain: list[BaseException] = []
    while error is not None and len(chain) < LONGEST_CHAIN:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _lowest_free_descriptor() -> int | None:
    """None when there is none."""
    try:
        descriptor = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as failed:
        return None if failed.errno == errno.EMFILE else FIRST_DESCRIPTOR
    posix.close(descriptor)
    return descriptor
