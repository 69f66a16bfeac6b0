"""What the benchmarks make of their measurements. That they measure at all is for `make bench` to show."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import load
from benchmarks.client import Answer
from benchmarks.report import table
from benchmarks.rows import Row
from benchmarks.spread import percentile, spread_ms


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent, value):
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_nothing_is_trimmed():
    assert spread_ms([0.001] * 99 + [9.0])["max_ms"] == 9000.0


@pytest.mark.parametrize(
    ("value", "more_is_better", "met"),
    [(4.0, False, "aim"), (8.0, False, "yes"), (11.0, False, "NO"), (11.0, True, "yes"), (9.0, True, "NO")],
)
def test_a_row_is_held_against_its_aim_and_its_bar(value, more_is_better, met):
    aim = 20.0 if more_is_better else 5.0
    assert Row(what="w", value=value, unit="ms", bar=10, aim=aim, more_is_better=more_is_better).met == met


def test_what_has_no_bar_is_not_judged():
    assert Row(what="w", value=1.0, unit="ms").met == ""


def test_the_table_is_aligned_and_rounded():
    rows = [Row(what="p50", value=1.23456, unit="ms", bar=2), Row(what="rate", value=101.2, unit="/s")]
    assert table(rows).splitlines() == [
        "what  measured  bar  aim  met",
        "p50   1.23 ms   ≤ 2       yes",
        "rate  101 /s",
    ]


def test_arrivals_are_the_same_in_each_run_and_keep_their_rate():
    due = load.arrivals(10.0, 1000)
    assert due == load.arrivals(10.0, 1000) == sorted(due)
    assert due[-1] == pytest.approx(100.0, rel=0.1)


async def test_an_answer_counts_from_when_it_was_due_and_the_next_request_does_not_wait_for_it():
    begun = 0
    both_asked = asyncio.Event()

    async def ask() -> Answer:
        nonlocal begun
        begun += 1
        if begun == 2:
            both_asked.set()
        await both_asked.wait()
        return Answer(200, b"")

    samples = await load.on_schedule([0.0, 0.01], ask, load.answered)
    assert [sample.seconds >= 0.01 for sample in sorted(samples, key=lambda sample: -sample.seconds)] == [True, False]


async def test_a_failure_is_counted_and_named():
    async def ask() -> Answer:
        raise ConnectionResetError

    samples = await load.all_at_once(2, ask, load.answered)
    assert load.failures(samples) == {"ConnectionResetError": 2}
    assert load.figures(samples)["count"] == 2


def test_what_a_program_printed_is_checked():
    assert load.printed_one(Answer(200, b'{"exit_code": 0, "stdout": "1\\n"}')) == ""
    assert load.printed_one(Answer(200, b'{"exit_code": 0, "stdout": ""}')) == "wrong output"
    assert load.ran_well(Answer(200, b'{"exit_code": 1}')) == "exit code 1"
    assert load.ran_well(Answer(503, b"{}")) == "status 503"
