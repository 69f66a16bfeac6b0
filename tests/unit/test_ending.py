"""The end of a program, where no program can be told to take it. All else: contract/test_differential.py."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from sandbox_runtime import ending
from tests.contract.pythons import pythons

RUNTIME = Path(__file__).resolve().parents[2] / "sandbox-runtime"

PRELUDE = f"""
import functools, os, sys
sys.path.insert(0, {str(RUNTIME)!r})
from sandbox_runtime import ending, frameless, last_words

def fail(*_):
    raise ValueError("in our own function")

def end(act):
    "End this process as the end of a program that does this."
    begun = ending.Ending({{}}, "/nowhere/", lambda status, limits: os.write(1, b"reported %d\\n" % status))
    begun.begin()
    begun.after([functools.partial(act), frameless.DONE])()
"""

MONITORED = """
def seen(code, offset):
    if code.co_filename == ending.__file__:
        raise ValueError("in our own function")
def monitored():
    watching = sys.monitoring
    watching.use_tool_id(3, "")
    watching.register_callback(3, watching.events.PY_START, seen)
    watching.set_events(3, watching.events.PY_START)
"""


def ended(lines: str, python: str = sys.executable) -> tuple[int, str]:
    """The exit status, and what was reported."""
    command = [python, "-I", "-S", "-c", PRELUDE + textwrap.dedent(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_a_program_that_raises_nothing_has_done_well():
    assert ended("end(bool)") == (0, "reported 0\n")


@pytest.mark.parametrize("broken", ["last_words.flush_quietly", "ending.Ending._judge"])
@pytest.mark.parametrize("act", ["bool", "fail"])
def test_one_that_was_never_judged_has_failed(broken: str, act: str):
    """SECURITY: what a program leaves behind may raise in our functions."""
    assert ended(f"{broken} = fail\nend({act})") == (1, "reported 1\n")


@pytest.mark.parametrize("broken", ["last_words.system_exit_status", "ending.Ending._has_left"])
def test_one_whose_exception_could_not_be_looked_at_has_failed(broken: str):
    assert ended(f"{broken} = fail\nend(functools.partial(sys.exit, 0))") == (1, "reported 1\n")


class Monitoring:
    """As `sys.monitoring`, whose tools raise when they are not in use."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names, self.events = names, dict.fromkeys(names, 7)

    def get_tool(self, tool: int) -> str | None:
        return self.names.get(tool)

    def set_events(self, tool: int, events: int) -> None:
        if tool not in self.names:
            raise ValueError(f"tool {tool} is not in use")
        self.events[tool] = events


@pytest.mark.parametrize("names", [{}, {0: "debugger"}, {2: "profiler", 5: ""}, dict.fromkeys(range(6), "all")])
def test_tools_that_monitor_see_nothing_after_the_program_and_are_still_there(names: dict[int, str]):
    monitoring = Monitoring({})
    *_, blind = ending._untraced(monitoring)
    monitoring.names, monitoring.events = names, dict.fromkeys(names, 7)  # while the program runs

    blind()

    assert monitoring.events == dict.fromkeys(names, 0)
    assert monitoring.names == names


def test_where_there_are_no_tools_tracing_ends():
    called: list[Any] = [step.func for step in ending._untraced(None)]  # type: ignore[attr-defined]

    assert called == [sys.settrace, sys.setprofile]


@pytest.mark.parametrize("version", [each for each in pythons() if tuple(map(int, each.split("."))) >= (3, 12)])
def test_a_tool_that_raises_at_the_sight_of_ours_changes_nothing(version: str):
    assert ended(MONITORED + "end(monitored)", str(pythons()[version])) == (0, "reported 0\n")
