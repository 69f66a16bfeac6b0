"""Run one program the way `python /workspace/__main__.py` does.

The interpreter that runs it is a fork of the zygote, so everything that a start of Python would do
after reading its command line is done here, and what it would do after the last line in `ending.py`.
`tests/contract/test_differential.py` holds both against the real thing.
"""

from __future__ import annotations

# SECURITY: here, and not where it is used: there the program's own ast.py would be run, by us and before the program
# (tests/contract/programs/modules.txt).
import ast
import functools
import io
import sys
import types

from sandbox_runtime import ending, frameless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

WORKSPACE = "/workspace"
PATH = WORKSPACE + "/__main__.py"


class Program:
    """A program. What needs no request is made first, off the clock; its code comes when it is run."""

    __slots__ = ("_calls", "_ending", "_namespace", "run")

    def __init__(self, receive: Callable[[], list[types.CodeType]], report: Callable[[int, list[str]], None]) -> None:
        """`receive` waits for what `compiled` makes; `report` is told the exit status and the limits that were met."""
        self._namespace = make_main_module().__dict__
        self._ending = ending.Ending(self._namespace, WORKSPACE + "/", report)
        self._calls: list[frameless.Call] = [
            functools.partial(setattr, sys, "stderr", sys.stderr),
            functools.partial(self._load, receive),
        ]
        self.run = self._ending.after(self._calls)
        """Waits for its code, runs it, and ends the process. For C to call."""

    def _load(self, receive: Callable[[], list[types.CodeType]]) -> None:
        codes = receive()
        self._ending.begin()
        self._calls += [functools.partial(exec, code, self._namespace) for code in codes]
        self._calls.append(frameless.DONE)


# --- before it runs -------------------------------------------------------------------------


def compiled(source: bytes, echo: bool) -> list[types.CodeType]:
    """The program as one code object, or two when its last expression is to be echoed as in the REPL."""
    if not echo:
        return [compile(source, PATH, "exec", dont_inherit=True)]
    tree = ast.parse(source, PATH)
    if not (tree.body and isinstance(tree.body[-1], ast.Expr)):
        return [compile(tree, PATH, "exec", dont_inherit=True)]
    last = ast.Interactive([tree.body.pop()])
    # No future statement of the body changes what an expression means.
    return [compile(code, PATH, mode, dont_inherit=True) for code, mode in ((tree, "exec"), (last, "single"))]


def make_main_module() -> types.ModuleType:
    """Put a fresh `__main__` in its place, as the interpreter fills it in for a script."""
    from importlib.machinery import SourceFileLoader

    module = types.ModuleType("__main__")
    module.__dict__.update(
        __loader__=SourceFileLoader("__main__", PATH),
        __annotations__={},
        __builtins__=sys.modules["builtins"],
        __file__=PATH,
        __cached__=None,
    )
    sys.modules["__main__"] = module
    # `multiprocessing`, when it was preloaded, gave that second name to the main module of then, which is ours.
    sys.modules.pop("__mp_main__", None)
    return module


def open_standard_streams() -> None:
    """stdin, stdout and stderr as `PYTHONUNBUFFERED=1 PYTHONIOENCODING=utf-8` makes them (Python/pylifecycle.c)."""
    reader = open(0, "rb", closefd=False)  # noqa: SIM115
    stdin = io.TextIOWrapper(reader, "utf-8", "strict", newline="\n", write_through=True)
    _install("stdin", stdin, reader.raw, "r")
    for name, descriptor, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        raw = open(descriptor, "wb", 0, closefd=False)  # noqa: SIM115
        _install(name, io.TextIOWrapper(raw, "utf-8", errors, newline="\n", write_through=True), raw, "w")


def _install(name: str, stream: io.TextIOWrapper, raw: Any, mode: str) -> None:
    raw.name = f"<{name}>"
    stream.mode = mode  # type: ignore[misc]  # it can be set, and is so by the interpreter
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


# --- while it runs --------------------------------------------------------------------------


def run_when_the_stack_is_empty(program: Program) -> None:
    """Arrange for `program` to run when the calling script has ended.

    After a script the interpreter calls `sys.stderr.flush()` from C (`flush_io`, Python/pythonrun.c): at that
    moment our last frame has gone.
    """
    sys.stderr = types.SimpleNamespace(flush=program.run, write=len)
