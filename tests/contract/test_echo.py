"""`last_line_interactive`: a bare expression in the last line is echoed as the REPL does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.places import Place
from tests.sandboxes import PROGRAMS, Sandboxes

AS_IN_THE_REPL = {
    "a number": "x = 41\nx + 1\n",
    "a string": "'it' + \"'s\"\n",
    "letters of all kinds": "'ü 日本 \U0001f389 \\n'\n",
    "what cannot be printed": "'\\ud800 \\x07 \\u2028'\n",
    "None, silently": "None\n",
    "a call that returns None": "[].append(1)\n",
    "a call that prints": "print('once')\n",
    "a call that prints and returns": "__import__('sys').stdout.write('text\\n')\n",
    "an Ellipsis": "...\n",
    "a tuple without parentheses": "1, *[2, 3]\n",
    "an assignment, silently": "x = 5\n",
    "an augmented assignment, silently": "x = 5\nx += 1\n",
    "an assignment expression": "(x := 5)\n",
    "a comparison": "1 < 2 < 3\n",
    "an import, silently": "import math\n",
    "a comment behind": "5  # five\n",
    "a comment below": "5\n# the end\n",
    "no newline at the end": "5",
    "a semicolon behind": "5;\n",
    "a statement and an expression in one line": "x = 5; x * 2\n",
    "an expression that spans lines": "sum([\n    1,\n    2,\n])\n",
    "a string that spans lines": "'''a\nb'''\n",
    "only a docstring": '"""All there is."""\n',
    "an underscore of the program's": "_ = 7\n_ * 2\n",
    "a future statement of the program's": "from __future__ import annotations\nannotations.compiler_flag > 0\n",
    "a displayhook of the program's": "import sys\nsys.displayhook = lambda value: print('shown:', value)\n5\n",
    "a displayhook, for None too": "import sys\nsys.displayhook = lambda value: print('shown:', value)\nNone\n",
    "a class": "int\n",
    "a conditional expression": "'yes' if 1 else 'no'\n",
    "a lambda that is called": "(lambda x: x * 2)(4)\n",
}


@pytest.fixture(scope="module")
def boxes(place: Place) -> Iterator[Sandboxes]:
    with place.sandboxes() as boxes:
        yield boxes


def stdout_of_the_repl(code: str) -> str:
    """What `python -i` prints when it is typed in, line by line."""
    python = os.path.join(PROGRAMS, "bin", "python")
    repl = subprocess.run(
        [python, "-q", "-i", "-I"],
        input=code.encode() + b"\n",
        capture_output=True,
        env={"LANG": "C.UTF-8"},
        timeout=30,
        check=True,
    )
    return repl.stdout.decode()


@pytest.mark.parametrize("code", AS_IN_THE_REPL.values(), ids=AS_IN_THE_REPL)
def test_the_last_line_is_echoed_as_in_the_repl(boxes, code):
    result = boxes.run(code, echo=True)

    assert result.stdout == stdout_of_the_repl(code)
    assert (result.stderr, result.exit_code) == ("", 0)


@pytest.mark.parametrize("code", ["5", "'text'", "__doc__", "1; 2"])
def test_nothing_is_echoed_unasked(boxes, code):
    result = boxes.run(code, echo=False)

    assert (result.stdout, result.exit_code) == ("", 0)


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("1\n2\n3\n", "3\n"),
        ("1; 2\n", "2\n"),
        ("if True:\n    5\n", ""),
        ("def f():\n    return 5\nf()\n", "5\n"),
        ('"""Docs."""\n__doc__\n', "'Docs.'\n"),
        ("", ""),
        ("# nothing\n", ""),
    ],
)
def test_only_the_last_expression_of_the_top_level_is_echoed(boxes, code, stdout):
    assert boxes.run(code, echo=True).stdout == stdout


def test_the_value_is_left_in_the_underscore(boxes):
    result = boxes.run("import atexit, builtins\natexit.register(lambda: print(builtins._))\n6 * 7\n", echo=True)

    assert result.stdout == "42\n42\n"


def test_the_repr_is_the_objects_own(boxes):
    code = "class C:\n    def __repr__(self):\n        print('asked')\n        return 'C!'\nC()\n"

    assert boxes.run(code, echo=True).stdout == "asked\nC!\n"


TRACEBACKS = {
    "the last expression fails": (
        "x = 0\n\n1 / x\n",
        '  File "/workspace/__main__.py", line 3, in <module>\n    1 / x\n    ~~^~~\n'
        "ZeroDivisionError: division by zero\n",
    ),
    "the repr fails": (
        "class C:\n    def __repr__(self):\n        raise ValueError('no words')\nC()\n",
        '  File "/workspace/__main__.py", line 3, in __repr__\n'
        "    raise ValueError('no words')\nValueError: no words\n",
    ),
    "the repr is no string": (
        "class C:\n    def __repr__(self):\n        return 5\nC()\n",
        "TypeError: __repr__ returned non-string (type int)\n",
    ),
    "the number has too many digits": (
        "10 ** 5000\n",
        "ValueError: Exceeds the limit (4300 digits) for integer string conversion; "
        "use sys.set_int_max_str_digits() to increase the limit\n",
    ),
    "await stands outside of a function": (
        "x = 1\nawait x\n",
        "  File \"/workspace/__main__.py\", line 2\n    await x\n    ^^^^^^^\nSyntaxError: 'await' outside function\n",
    ),
    "yield stands outside of a function": (
        "yield 1\n",
        "  File \"/workspace/__main__.py\", line 1\n    yield 1\n    ^^^^^^^\nSyntaxError: 'yield' outside function\n",
    ),
    "the last line is no Python": (
        "x = 1\nx +\n",
        '  File "/workspace/__main__.py", line 2\n    x +\n       ^\nSyntaxError: invalid syntax\n',
    ),
}


@pytest.mark.parametrize(("code", "end"), TRACEBACKS.values(), ids=TRACEBACKS)
def test_what_fails_has_the_same_traceback_as_without_echo(boxes, code, end):
    result = boxes.run(code, echo=True)

    assert result.stderr.endswith(end)
    assert "sandbox_runtime" not in result.stderr
    assert (result.stdout, result.exit_code) == ("", 1)


def test_a_body_that_fails_is_not_followed_by_its_last_line(boxes):
    result = boxes.run("1 / 0\nprint('never')\n", echo=True)

    assert (result.stdout, result.exit_code) == ("", 1)


def test_the_last_expression_may_exit(boxes):
    assert boxes.run("import sys\nsys.exit(3)\n", echo=True).exit_code == 3


def test_the_stack_is_the_programs_own(boxes):
    code = "import sys, traceback\nprint(sys._getframe().f_back)\ntraceback.print_stack()\n"

    result = boxes.run(code, echo=True)

    assert result.stdout == "None\n"
    assert result.stderr.count("File ") == 1


def test_source_and_inputs_are_as_without_echo(boxes):
    code = "import inspect\ndef f():\n    return input()\nprint(inspect.getsource(f), end='')\nf()\n"

    assert boxes.run(code, stdin="typed\n", echo=True).stdout == "def f():\n    return input()\n'typed'\n"
