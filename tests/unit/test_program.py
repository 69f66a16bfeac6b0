"""A program before it runs: what is compiled, and its main module. How it runs: `contract/test_differential.py`."""

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_runtime import program


def ran(source: str | bytes, *, echo: bool = False) -> str:
    """What a program prints."""
    codes = program.compiled(source.encode() if isinstance(source, str) else source, echo)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for code in codes:
            exec(code, namespace)
    return printed.getvalue()


# --- the last line echoed ---


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("1 + 1", "2\n"),
        ("x = 1\nx", "1\n"),
        ("None", ""),
        ("'a\\nb'", "'a\\nb'\n"),
        ("print(1); 2", "1\n2\n"),
        ("print(1)", "1\n"),
        ("x = 1", ""),
        ("def f():\n    3\nf()", ""),
        ("if True:\n    4", ""),
        ("5 # comment\n\n# and more\n", "5\n"),
        ("", ""),
        ("# nothing\n", ""),
        ("6;", "6\n"),
        ("(7,\n 8)", "(7, 8)\n"),
    ],
)
def test_the_value_of_a_last_bare_expression_is_echoed(source: str, printed: str):
    assert ran(source, echo=True) == printed


@pytest.mark.parametrize("source", ["1 + 1", "x = 1\nx", "6;"])
def test_nothing_is_echoed_unless_asked_for(source: str):
    assert ran(source) == ""


def test_the_echoed_value_is_kept_as_in_the_repl():
    had = getattr(sys.modules["builtins"], "_", None)
    ran("41 + 1", echo=True)
    assert sys.modules["builtins"].__dict__.pop("_") == 42
    if had is not None:
        sys.modules["builtins"].__dict__["_"] = had


@pytest.mark.parametrize("echo", [False, True])
def test_future_statements_hold(echo: bool):
    # In a last line that is echoed there is nothing left that any of them could change.
    source = b"from __future__ import annotations\nx: undefined = 1\nf = lambda: 0\n(lambda: 0)"
    codes = program.compiled(source, echo)
    assert len(codes) == 1 + echo
    assert codes[0].co_flags & annotations.compiler_flag


@pytest.mark.parametrize("echo", [False, True])
def test_our_own_future_statements_do_not_become_the_programs(echo: bool):
    for code in program.compiled(b"x = 1\nx", echo):
        assert not code.co_flags & annotations.compiler_flag


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"x = = 1", SyntaxError),
        (b"\xff", SyntaxError),
        (b"# coding: nonsense\n", SyntaxError),
        (b"print(1)\0", (SyntaxError, ValueError)),
        (b"  x", IndentationError),
        (b"return", SyntaxError),
    ],
)
def test_what_cannot_be_compiled_is_an_error_for_the_interpreter_to_tell(
    source: bytes, error: type[Exception], echo: bool
):
    with pytest.raises(error):
        program.compiled(source, echo)


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize(
    "source",
    [
        "\ufeffprint('ü')".encode(),
        b"# coding: latin-1\nprint('\xfc')",
        "# vim: set fileencoding=utf-8 :\nprint('ü')".encode(),
    ],
)
def test_marks_and_cookies_tell_the_encoding(source: bytes, echo: bool):
    assert ran(source, echo=echo) == "ü\n"


@settings(deadline=None)
@given(value=st.none() | st.integers() | st.text(max_size=20) | st.booleans())
def test_a_value_is_echoed_as_its_repr(value: object):
    assert ran(f"{value!r}", echo=True) == ("" if value is None else f"{value!r}\n")


@pytest.mark.parametrize("echo", [False, True])
def test_compiling_imports_nothing(monkeypatch: pytest.MonkeyPatch, echo: bool):
    """SECURITY: by then the program's own modules come first, and one named ast would run below our frames."""
    with monkeypatch.context() as patched:
        patched.setattr("builtins.__import__", _refuse)
        codes = program.compiled(b"x = 1\nx", echo)
    assert len(codes) == 1 + echo


def _refuse(name: str, *_: object) -> types.ModuleType:
    raise AssertionError(f"imports {name}")


def test_code_comes_from_where_the_program_is():
    for code in program.compiled(b"x = 1\nx", True):
        assert code.co_filename == "/workspace/__main__.py"


# --- the main module ---


@pytest.fixture
def main_module() -> Iterator[types.ModuleType]:
    before = sys.modules["__main__"]
    yield program.make_main_module()
    sys.modules["__main__"] = before


def test_the_main_module_is_the_one_that_is_imported(main_module: types.ModuleType):
    assert sys.modules["__main__"] is main_module


def test_the_main_module_has_what_a_script_has_and_no_more(main_module: types.ModuleType):
    names = {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__annotations__", "__builtins__"}
    assert set(vars(main_module)) == names | {"__file__", "__cached__"}
    assert main_module.__name__ == "__main__"
    assert main_module.__file__ == "/workspace/__main__.py"
    assert main_module.__spec__ is None
