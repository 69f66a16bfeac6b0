"""Run one program the way `python /workspace/__main__.py` does.

The interpreter that runs it is a fork of the zygote, so everything that a start of Python would do
after reading its command line is done here: the main module, the exit status, the end of threads,
`atexit`, the death of globals. `tests/contract/test_differential.py` holds it against the real thing.
"""

from __future__ import annotations

import atexit
import collections
import errno
import functools
import gc
import io
import itertools
import os
import signal
import sys
import threading
import traceback
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

WORKSPACE = "/workspace"
PATH = WORKSPACE + "/__main__.py"

FLUSH_FAILED = 120
"""The exit status of CPython when the last flush of stdout fails (Python/pylifecycle.c)."""


class Program:
    """A compiled program and the main module that it will run in."""

    __slots__ = ("codes", "namespace", "report")

    def __init__(self, codes: list[types.CodeType], report: Callable[[int, list[str]], None]) -> None:
        self.codes = codes
        self.namespace = main_module().__dict__
        self.report = report


# --- before it runs -------------------------------------------------------------------------


def compiled(source: bytes, echo: bool) -> list[types.CodeType]:
    """The program as one code object, or two when its last expression is to be echoed as in the REPL."""
    import ast

    if not echo:
        return [compile(source, PATH, "exec", dont_inherit=True)]
    tree = compile(source, PATH, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    if not (tree.body and isinstance(tree.body[-1], ast.Expr)):
        return [compile(tree, PATH, "exec", dont_inherit=True)]
    last = ast.Interactive([tree.body.pop()])
    body = compile(tree, PATH, "exec", dont_inherit=True)
    # The future statements of the body hold for its last line too.
    return [body, compile(last, PATH, "single", body.co_flags & _future_flags(), dont_inherit=True)]


def _future_flags() -> int:
    import __future__

    return functools.reduce(
        int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
    )


def main_module() -> types.ModuleType:
    """A fresh `__main__`, as the interpreter fills it in for a script."""
    from importlib.machinery import SourceFileLoader

    module = types.ModuleType("__main__")
    module.__dict__.update(
        __doc__=None,
        __loader__=SourceFileLoader("__main__", PATH),
        __builtins__=sys.modules["builtins"],
        __file__=PATH,
        __cached__=None,
    )
    sys.modules["__main__"] = module
    return module


def open_standard_streams() -> None:
    """stdin, stdout and stderr as `PYTHONUNBUFFERED=1 PYTHONIOENCODING=utf-8` makes them (Python/pylifecycle.c)."""
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(open(0, "rb", closefd=False), "utf-8", "strict")
    sys.stdout = sys.__stdout__ = _unbuffered(1, "strict")
    sys.stderr = sys.__stderr__ = _unbuffered(2, "backslashreplace")
    for stream, name in ((sys.stdin, "<stdin>"), (sys.stdout, "<stdout>"), (sys.stderr, "<stderr>")):
        raw = stream.buffer.raw if stream is sys.stdin else stream.buffer
        raw.name = name
    sys.stdin.mode = "r"


def _unbuffered(descriptor: int, errors: str) -> io.TextIOWrapper:
    raw = open(descriptor, "wb", 0, closefd=False)
    stream = io.TextIOWrapper(raw, "utf-8", errors, newline="\n", write_through=True)
    stream.mode = "w"
    return stream


# --- while it runs --------------------------------------------------------------------------


class _Doorstep:
    """Stands in for `sys.stderr` while the interpreter leaves our main module.

    A program may look at its own stack (`inspect.stack()`, `warnings.warn(stacklevel=2)`), and what it
    finds there must be its own. So the program runs when our last Python frame has gone: after a script
    the interpreter calls `sys.stderr.flush()` from C (`flush_io`, Python/pythonrun.c) and drops what it
    returns. That is an object whose `__del__` is made of built-ins only.
    """

    def __init__(self, start: Callable[[], object]) -> None:
        self._start = start

    def write(self, _: str) -> int:
        return 0

    def flush(self) -> object:
        return self._start()


def run_when_the_stack_is_empty(program: Program) -> None:
    """Arrange for `program` to run as soon as the calling script has ended. Does not return to anybody after that."""
    _doorsteps.append(sys.stderr)
    sys.stderr = _Doorstep(functools.partial(_start, program))  # type: ignore[assignment]  # nothing writes to it


_doorsteps: list[object] = []


def _start(program: Program) -> object:
    _modules_at_start[0] = len(sys.modules)
    sys.stderr = _doorsteps.pop()  # type: ignore[assignment]  # the stream that was put there above
    end = compile("finish(None)", "<end of program>", "exec")
    spaces = [program.namespace] * len(program.codes) + [{"finish": functools.partial(finish, program)}]
    run = functools.partial(collections.deque, map(exec, [*program.codes, end], spaces), 0)

    class Running:
        __del__ = staticmethod(run)

    # An exception of the program leaves `__del__`, and comes to this hook with the program's frames only.
    sys.unraisablehook = functools.partial(_ended_by_exception, program, run, sys.unraisablehook)
    return Running()


def _ended_by_exception(
    program: Program, run: object, others: Callable[[object], object], unraisable: sys.UnraisableHookArgs
) -> None:
    if unraisable.object is not run:
        others(unraisable)
        return
    error = unraisable.exc_value or unraisable.exc_type()
    finish(program, error.with_traceback(unraisable.exc_traceback))


# --- after it has run -----------------------------------------------------------------------


def finish(program: Program, error: BaseException | None) -> NoReturn:
    """Do what the interpreter does between a script's last line and the process's end, and report the status."""
    hit = limits_hit(error)
    status = exit_status(error)
    _guarded(threading._shutdown)
    _guarded(atexit._run_exitfuncs)
    status = status if flush_standard_streams() else FLUSH_FAILED
    _bury(program.namespace)
    flush_standard_streams()
    if isinstance(error, KeyboardInterrupt):
        die_of_interrupt()
    program.report(status, hit)
    os._exit(status)


_LIMIT_OF = {
    errno.ENOSPC: "disk",
    errno.EDQUOT: "disk",
    errno.EFBIG: "file_size",
    errno.EMFILE: "open_files",
}


def limits_hit(error: BaseException | None) -> list[str]:
    """The limits that a program met, as far as they show: in the exception that ended it, or in its open files."""
    hit = []
    while error is not None and len(hit) < len(_LIMIT_OF):
        if isinstance(error, OSError):
            hit.append(_LIMIT_OF.get(error.errno or 0))
        error = error.__cause__ or error.__context__
    if _files_are_exhausted():
        hit.append("open_files")
    return sorted({name for name in hit if name})


def _files_are_exhausted() -> bool:
    try:
        os.close(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as failed:
        return failed.errno == errno.EMFILE
    return False


def exit_status(error: BaseException | None) -> int:
    """The status for how the main module ended, its traceback printed (`handle_system_exit` in CPython)."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return system_exit_status(error.code)
    return _print_exception(error)


def system_exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(2**63) <= code < 2**63 else 0xFF
    with _Quietly():
        print(code, file=sys.stderr, flush=True)
    return 1


def _print_exception(error: BaseException) -> int:
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit as leaving:
        return system_exit_status(leaving.code)
    except BaseException as in_hook:  # whatever a program's hook raises, both tracebacks are shown and the status is 1
        _print_both(error, in_hook)
    return 1


def _print_both(error: BaseException, in_hook: BaseException) -> None:
    in_hook.__traceback__ = in_hook.__traceback__ and in_hook.__traceback__.tb_next
    in_hook.__context__ = None
    with _Quietly():
        sys.stderr.write("Error in sys.excepthook:\n")
        traceback.print_exception(type(in_hook), in_hook, in_hook.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        traceback.print_exception(type(error), error, error.__traceback__)


class _Quietly:
    """stderr may be closed, gone or an object of the program's: what cannot be printed is not printed."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        return isinstance(error, Exception)


def _guarded(step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException:  # reported as the interpreter does, and the end goes on
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # inside an except clause none of them is None


def flush_standard_streams() -> bool:
    """False when stdout could not be flushed: the interpreter's exit status is then 120."""
    fine = _flushed(sys.stdout)
    _flushed(sys.stderr)
    return fine


def _flushed(stream: object) -> bool:
    try:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()  # type: ignore[attr-defined]  # whatever the program has put there
    except Exception:
        return False
    return True


def _bury(namespace: dict[str, object]) -> None:
    """Let the program's globals die, so that `__del__` runs and files that were left open are written.

    Order as in `_PyModule_Clear`: private names first, then the others.
    """
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    gc.collect()
    for module in _own_modules():
        _clear(module.__dict__)
    _clear(namespace)
    gc.collect()


def _own_modules() -> list[types.ModuleType]:
    """Modules that came from the workspace, latest first; a library's need no burial.

    Only those imported since the fork are looked at: touching each of the zygote's 1 500 modules copies
    the page that it is on, 3 ms in all.
    """
    latest = itertools.islice(reversed(sys.modules.values()), len(sys.modules) - _modules_at_start[0])
    modules = [module for module in latest if isinstance(module, types.ModuleType)]
    own = [module for module in modules if str(module.__dict__.get("__file__")).startswith(WORKSPACE + "/")]
    return [module for module in own if module.__dict__.get("__file__") != PATH]


_modules_at_start = [0]


def _clear(namespace: dict[str, object]) -> None:
    names = [name for name in namespace if isinstance(name, str) and name != "__builtins__"]
    for name in sorted(names, key=lambda name: not (name.startswith("_") and not name.startswith("__"))):
        namespace[name] = None


def die_of_interrupt() -> NoReturn:
    """An uncaught KeyboardInterrupt ends Python by SIGINT itself (`exit_sigint`, Modules/main.c)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(128 + signal.SIGINT)
