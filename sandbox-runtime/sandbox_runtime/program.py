"""Run one program the way `python /workspace/__main__.py` does.

The interpreter that runs it is a fork of the zygote, so everything that a start of Python would do
after reading its command line is done here, and what it would do after the last line in `ending.py`.
`tests/contract/test_differential.py` holds both against the real thing.
"""

from __future__ import annotations

import functools
import io
import sys
import types

from sandbox_runtime import ending, frameless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

WORKSPACE = "/workspace"
PATH = WORKSPACE + "/__main__.py"


class Program:
    """A compiled program, and whom to tell its exit status and the limits that it met."""

    __slots__ = ("codes", "report")

    def __init__(self, codes: list[types.CodeType], report: Callable[[int, list[str]], None]) -> None:
        self.codes = codes
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
    return module


def open_standard_streams() -> None:
    """stdin, stdout and stderr as `PYTHONUNBUFFERED=1 PYTHONIOENCODING=utf-8` makes them (Python/pylifecycle.c)."""
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(
        open(0, "rb", closefd=False), "utf-8", "strict", "\n", write_through=True
    )
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


def run_when_the_stack_is_empty(program: Program) -> None:
    """Arrange for `program` to run when the calling script has ended. Nothing of ours runs after that but its ending.

    After a script the interpreter calls `sys.stderr.flush()` from C (`flush_io`, Python/pythonrun.c): at that
    moment our last frame has gone.
    """
    namespace = make_main_module().__dict__
    calls = [functools.partial(setattr, sys, "stderr", sys.stderr)]
    calls += [functools.partial(exec, code, namespace) for code in program.codes]
    calls.append(frameless.DONE)
    to_its_end = ending.Ending(calls, WORKSPACE + "/", program.report).steps()
    sys.stderr = types.SimpleNamespace(flush=to_its_end, write=len)  # type: ignore[assignment]
