from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool import policy
from pool.states import Retirement


def verdict(**changed: object) -> Retirement | None:
    given: dict = {"doubt": None, "runs": 1, "max_runs": 1, "is_current": True, **changed}
    return policy.verdict(**given)


def test_one_run_a_sandbox_is_retired():
    assert verdict() is Retirement.USED


def test_only_an_uneventful_run_of_the_present_generation_is_recycled():
    assert verdict(max_runs=2) is None
    assert verdict(max_runs=2, runs=2) is Retirement.USED
    assert verdict(max_runs=2, is_current=False) is Retirement.GENERATION
    assert verdict(max_runs=2, doubt=Retirement.CANCELLED) is Retirement.CANCELLED


def test_backoff_doubles_up_to_its_bound():
    whole = [policy.backoff_seconds(failures, 1.0) for failures in (1, 2, 3, 8, 9, 1000)]
    assert whole == [0.25, 0.5, 1.0, 30.0, 30.0, 30.0]


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1))
def test_backoff_is_at_least_half_of_its_whole(failures, jitter):
    delay = policy.backoff_seconds(failures, jitter)
    assert policy.backoff_seconds(failures, 1.0) / 2 <= delay <= policy.BACKOFF_MOST_SECONDS


def test_a_hold_says_why_how_often_and_until_when():
    hold = policy.hold_after(3, reason="quota", text="exceeded quota: pods=8", now=100.0, jitter=1.0)
    assert hold.until == 101.0
    assert hold.text == (
        "no sandbox could be started (quota), 3 times in a row; next attempt after 1.00 s: exceeded quota: pods=8"
    )


def test_a_hold_quotes_only_so_much():
    hold = policy.hold_after(1, reason="hello", text="z" * 10_000, now=0.0, jitter=0.0)
    assert hold.text.count("z") == policy.QUOTED_CHARS


def start_wait(ahead: int, *began: float, at_once: int = 2) -> float:
    return policy.start_wait_seconds(ahead, now=10.0, starting_since=began, start_seconds=1.0, at_once=at_once)


@pytest.mark.parametrize(
    ("ahead", "began", "expected"),
    [
        (0, (), 1.0),  # nothing under way: one start from now
        (0, (9.25,), 0.25),  # under way: the rest of it
        (1, (9.25,), 1.0),  # the second place is still to be started
        (1, (9.25, 9.5), 0.5),
        (2, (9.25, 9.5), 1.25),  # after the first of the two under way
        (7, (), 4.0),  # four rounds of two
        (0, (15.0,), 6.0),  # a back-off until 15
        (0, (3.0,), 0.0),  # overdue: any moment
    ],
)
def test_expected_wait_counts_rounds_and_what_is_under_way(ahead, began, expected):
    assert start_wait(ahead, *began) == pytest.approx(expected)


def test_leases_end_one_after_another():
    assert policy.release_wait_seconds(0, lease_seconds=8.0, ages=[0.0] * 4) == 2.0
    assert policy.release_wait_seconds(3, lease_seconds=8.0, ages=[0.0] * 4) == 8.0


def test_a_lease_that_has_lasted_is_expected_to_last_as_long_again():
    assert policy.release_wait_seconds(0, lease_seconds=0.1, ages=[4.0]) == pytest.approx(4.0)
    assert policy.release_wait_seconds(2, lease_seconds=0.1, ages=[4.0]) == pytest.approx(4.2)
    assert policy.release_wait_seconds(0, lease_seconds=0.1, ages=[4.0, 4.0]) == pytest.approx(2.0)
    # One that hangs takes away its own place, and nobody else's.
    assert policy.release_wait_seconds(0, lease_seconds=1.0, ages=[1000.0, 0.0]) == pytest.approx(1.0, abs=0.01)


def test_nothing_is_expected_of_leases_of_which_nothing_is_known():
    assert policy.release_wait_seconds(9, lease_seconds=0.0, ages=[0.0]) == 0.0
    assert policy.release_wait_seconds(9, lease_seconds=0.0, ages=[]) == 0.0
    assert policy.release_wait_seconds(9, lease_seconds=0.0, ages=[4.0]) == pytest.approx(4.0)


# No clock tells less than a nanosecond, except nothing at all.
some_seconds = st.floats(1e-9, 1e5) | st.just(0.0)


@given(ahead=st.integers(0, 1000), lease_seconds=some_seconds, ages=st.lists(some_seconds, max_size=70))
def test_the_wait_for_leases_is_at_least_what_was_measured_and_grows_with_the_waiters(ahead, lease_seconds, ages):
    def wait(ahead: int, *older: float) -> float:
        return policy.release_wait_seconds(ahead, lease_seconds=lease_seconds, ages=older or ages)

    assert 0.0 <= wait(ahead) <= wait(ahead + 1) < float("inf")
    if ages:
        assert wait(0) >= lease_seconds / len(ages) * (1 - 1e-9)
        assert wait(ahead) <= wait(ahead, *[age + 1.0 for age in ages]) * (1 + 1e-9)


def test_retry_after_is_never_at_once():
    assert policy.retry_after_seconds(0.0) == 1.0
    assert policy.retry_after_seconds(7.5) == 7.5


def test_an_average_follows_slowly():
    assert policy.smoothed(None, 3.0) == 3.0
    assert policy.smoothed(1.0, 2.0) == pytest.approx(1.2)


def test_probes_are_spread():
    assert [policy.probe_delay_seconds(30.0, jitter) for jitter in (0.0, 0.5, 1.0)] == [22.5, 30.0, 37.5]
