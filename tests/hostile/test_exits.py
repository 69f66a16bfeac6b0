"""Every way to end, and to refuse to."""

from __future__ import annotations

import signal

import pytest

from tests.hostile.attack import run
from tests.sandboxes import Result, Sandboxes

SHORT_MS = 1000
SLACK_MS = 10_000


def ended(result: Result) -> tuple[int | None, str, str | None]:
    return result.exit_code, result.outcome.reason, result.outcome.signal


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import os; os._exit(0)", 0),
        ("import os; os._exit(300)", 44),
        ("import os; os._exit(-1)", 255),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit(-1)", 255),
        ("raise SystemExit(1 << 70)", 255),
        ("raise SystemExit(None)", 0),
        ("1 / 0", 1),
        ("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 9'])", 9),
        ("import os; os.abort = None; os._exit = lambda status: None", 0),
    ],
)
def test_the_exit_code_is_the_status_of_the_process(boxes: Sandboxes, code: str, exit_code: int):
    assert ended(boxes.run(code)) == (exit_code, "exited", None)


def test_a_text_to_exit_with_goes_to_stderr(boxes: Sandboxes):
    result = boxes.run("import sys; sys.exit('x')")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "x\n")


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT, signal.SIGALRM, signal.SIGIO, signal.SIGSYS],
    ids=lambda number: number.name,
)
def test_a_signal_shows_in_code_and_name(boxes: Sandboxes, number: signal.Signals):
    result = boxes.run(f"import os; os.kill(os.getpid(), {number:d})")
    assert ended(result) == (128 + number, "signal", number.name)


def test_a_real_time_signal_has_a_number_and_no_name(boxes: Sandboxes):
    result = boxes.run("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)")
    assert ended(result) == (128 + signal.SIGRTMIN + 3, "signal", None)


@pytest.mark.parametrize(
    "code",
    [
        "import ctypes; ctypes.string_at(0)",
        "import sys; sys.setrecursionlimit(1 << 30)\ndef deeper(): return [*map(lambda _: deeper(), [0])]\ndeeper()",
    ],
    ids=["null pointer", "stack overflow"],
)
def test_a_segfault_is_139(boxes: Sandboxes, code: str):
    result = boxes.run(code)
    assert ended(result) == (139, "signal", "SIGSEGV")
    assert result.files == {}  # no core


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import atexit, time; atexit.register(time.sleep, 60)",
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()",
        "import os; os.execv('/bin/sleep', ['sleep', '60'])",
        "class Hangs:\n    def __del__(self):\n        while True: pass\nkept = Hangs()",
        "import sys\ndef spin(*_):\n    while True: pass\nsys.excepthook = spin\n1 / 0",
    ],
    ids=["stops itself", "atexit", "thread", "another program", "__del__", "excepthook"],
)
def test_what_hangs_on_its_way_out_times_out(boxes: Sandboxes, code: str):
    # In one write: `print` makes two, and the end may come between them.
    result = boxes.run(f"import os; os.write(1, b'so far\\n')\n{code}", timeout_ms=SHORT_MS)
    assert ended(result) == (None, "timeout", "SIGKILL")
    assert result.stdout == "so far\n"
    assert SHORT_MS <= result.outcome.duration_ms < SHORT_MS + SLACK_MS


def test_a_millisecond_is_a_time_like_any_other(boxes: Sandboxes):
    result = boxes.run("while True: pass", timeout_ms=1)
    assert ended(result) == (None, "timeout", "SIGKILL")


def test_atexit_runs_and_a_daemon_thread_holds_nobody_up(boxes: Sandboxes):
    source = """
        import atexit
        atexit.register(print, "farewell")
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """
    result = run(boxes, source)
    assert (result.stdout, result.exit_code) == ("farewell\n", 0)
    assert result.outcome.duration_ms < SLACK_MS


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def (:", "SyntaxError"),
        ("1 / 0\0", ""),
        ("(" * 5000 + ")" * 5000, "too many nested parentheses"),
        ("-" * 100_000 + "1", ""),
        ("def f(): f()\nf()", "RecursionError"),
        ("raise ValueError('x' * 50_000_000)", ""),
        ("raise type('E' * 10_000_000, (Exception,), {})", ""),
        ("input()", "EOFError"),
    ],
    ids=["syntax", "NUL", "parentheses", "minuses", "recursion", "50 MB text", "10 MB name", "no stdin"],
)
def test_errors_end_with_one_and_a_bounded_stderr(boxes: Sandboxes, code: str, error: str):
    result = boxes.run(code)
    # The compiler's own stack gives way to a hundred thousand signs, in `python` too.
    assert result.exit_code in ((1, 139) if code.startswith("--") else (1,))
    assert error.casefold() in result.stderr.casefold()
    assert len(result.stderr_bytes) <= 1_000_000
    assert "sandbox_runtime" not in result.stderr


def test_only_the_program_itself_ends_the_run(boxes: Sandboxes):
    source = """
        pid = os.fork()
        if pid == 0:
            sys.exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        sys.exit(6)
    """
    result = run(boxes, source)
    assert (result.stdout, result.exit_code) == ("5\n", 6)


def test_sabotage_of_its_own_interpreter_hurts_the_program_only(boxes: Sandboxes):
    source = """
        import builtins, gc, io
        for module in (os, sys, io, json, threading, signal, gc, builtins):
            for name in list(vars(module)):
                if not name.startswith("__"):
                    vars(module)[name] = None
    """
    result = run(boxes, source, timeout_ms=2000)
    assert result.outcome.reason in ("exited", "signal", "timeout")
