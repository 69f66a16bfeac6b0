"""What of the command line is decided without a service: what is shown, where a file goes, how a command ends."""

from __future__ import annotations

import click
import pytest

from code_interpreter_client import ServiceRefused, ServiceUnreachable
from code_interpreter_client.command_line.endings import Impossible, exit_code, judge
from code_interpreter_client.command_line.inputs import local_and_path
from code_interpreter_client.command_line.terminal import moment, printable, table, without_controls


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("报告 a.csv", "报告 a.csv"),
        ("a\tb\nc\r", r"a\tb\nc\r"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b2J", r"\x9b2J"),  # one character is a whole control sequence introducer
        ("fdp\u202etxt.exe", r"fdp\u202etxt.exe"),  # right to left: reads as exe.txt
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_a_name_shows_as_it_is_or_as_escapes(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_output_keeps_its_lines_and_loses_what_moves_the_cursor() -> None:
    assert without_controls("a\tb\r\n\x1b[31mé\x7f\x9b\u202e") == "a\tb\r\n\\x1b[31mé\\x7f\\x9b\u202e"


def test_a_table_has_columns_and_nothing_of_a_cell_leaves_its_line() -> None:
    assert table(("A", "B"), [("1", "x\ny"), ("333", "")]) == "1    x\\ny\n333"


@pytest.mark.parametrize("seconds", [None, 1e300, -1e300, float("nan"), float("inf")])
def test_no_moment_is_a_dash(seconds: float | None) -> None:
    assert moment(seconds) == "-"


@pytest.mark.parametrize(
    ("given", "local", "path"),
    [
        ("a.csv", "a.csv", "a.csv"),
        ("/data/a.csv", "/data/a.csv", "a.csv"),
        ("data/a.csv:in/b.csv", "data/a.csv", "in/b.csv"),
        ("a:b:c", "a:b", "c"),
    ],
)
def test_a_file_has_a_place_here_and_one_there(given: str, local: str, path: str) -> None:
    assert local_and_path(given) == (local, path)


@pytest.mark.parametrize("given", ["", ":", "a:", ":a", "/"])
def test_what_names_no_file_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter):
        local_and_path(given)


def test_a_status_is_the_programs_or_that_of_a_timeout() -> None:
    assert [exit_code(status) for status in (0, 7, 137, 255, None)] == [0, 7, 137, 255, 124]
    assert [exit_code(strange) for strange in (256, 256 + 3, -1)] == [125] * 3


def test_an_ending_has_the_services_word_for_it() -> None:
    ended = judge(ServiceRefused("busy", status=429, code="pool_saturated", retryable=True))
    assert (ended.status, ended.sentence) == (125, "busy")
    assert ended.report == {"error": {"detail": "busy", "code": "pool_saturated", "retryable": True, "status": 429}}


def test_an_ending_without_a_service_promises_nothing() -> None:
    reports = [judge(error).report for error in (ServiceUnreachable("gone"), Impossible("no"))]
    assert [report["error"]["code"] for report in reports if report] == ["not_reached", "not_done"]
    assert [report["error"]["retryable"] for report in reports if report] == [False, False]


def test_an_error_that_nobody_expected_is_a_sentence_that_quotes_nothing() -> None:
    try:
        raise RuntimeError("the program's own text")
    except RuntimeError as error:
        ended = judge(error)
    assert ended.sentence.startswith("an error of its own, please report it: RuntimeError at test_command_line.py:")
    assert "own text" not in ended.sentence
