"""The token bucket, as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.rate import Bucket, capacity, take


def test_a_burst_is_ten_seconds_worth_and_then_one_waits_for_a_token() -> None:
    bucket: Bucket | None = None
    for _ in range(10):
        bucket, wait = take(bucket, per_minute=60, now=100.0)
        assert wait == 0
    assert take(bucket, per_minute=60, now=100.0)[1] == pytest.approx(1.0)
    assert take(bucket, per_minute=60, now=100.75)[1] == pytest.approx(0.25)


def test_a_slow_rate_lets_one_through() -> None:
    bucket, wait = take(None, per_minute=0.5, now=0.0)
    assert wait == 0
    assert take(bucket, per_minute=0.5, now=0.0)[1] == pytest.approx(120.0)


def test_being_refused_costs_nothing() -> None:
    bucket, _ = take(None, per_minute=1, now=0.0)
    for now in range(1, 60):
        bucket, wait = take(bucket, per_minute=1, now=float(now))
        assert wait == pytest.approx(60.0 - now)


@given(
    per_minute=st.floats(min_value=0.1, max_value=100_000),
    pauses=st.lists(st.floats(min_value=0, max_value=100), max_size=60),
)
def test_never_more_than_the_rate_and_one_burst_and_the_wait_is_true(per_minute: float, pauses: list[float]) -> None:
    bucket, now, taken = None, 0.0, 0
    for pause in pauses:
        now += pause
        bucket, wait = take(bucket, per_minute=per_minute, now=now)
        taken += wait == 0
        if wait:
            assert take(bucket, per_minute=per_minute, now=now + wait * 1.000001)[1] < wait * 1e-3
    assert taken <= capacity(per_minute) + now * per_minute / 60 + 1e-6
