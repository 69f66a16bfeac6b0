"""When launchers and templates are replaced: numbers in, a decision out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pool.local.policy import UpkeepPolicy

POLICY = UpkeepPolicy(renew_forks=100, renew_seconds=60.0, restarts=4, window_seconds=30.0, first_pause_seconds=0.5)


def test_a_renewal_is_due_by_count_or_by_age():
    assert not POLICY.renewal_due(99, 59.9)
    assert POLICY.renewal_due(100, 0.0)
    assert POLICY.renewal_due(0, 60.0)


def test_failed_renewals_are_tried_again_at_growing_distances_up_to_the_usual_one():
    assert [POLICY.renewal_pause_seconds(failures) for failures in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert POLICY.renewal_pause_seconds(1000) == POLICY.renew_seconds


def test_the_first_launcher_that_is_lost_is_replaced_at_once():
    assert POLICY.restart_pause_seconds([], 1000.0) == 0.0


def test_the_next_ones_are_replaced_at_growing_distances():
    pauses = [POLICY.restart_pause_seconds([1000.0] * earlier, 1000.0) for earlier in (1, 2, 3)]
    assert pauses == [0.5, 1.0, 2.0]


def test_what_happened_before_the_window_does_not_count():
    assert POLICY.restart_pause_seconds([900.0, 960.0, 970.0], 1000.0) == 0.0
    assert POLICY.recent([900.0, 970.0, 970.1], 1000.0) == [970.1]


def test_more_than_so_many_in_a_window_wait_until_it_has_passed():
    assert POLICY.restart_pause_seconds([990.0, 991.0, 992.0, 993.0], 1000.0) == 20.0


ROUNDING = 1e-6


@settings(deadline=None)
@given(deaths=st.lists(st.floats(0.0, 100.0), max_size=60))
def test_no_window_ever_sees_more_launchers_than_allowed(deaths: list[float]):
    # Each launcher is started after its pause, and lives for as long as is given.
    now = 0.0
    starts: list[float] = []
    for life_seconds in deaths:
        now += POLICY.restart_pause_seconds(starts, now)
        starts = [*starts, now]
        assert len([at for at in starts if now - at < POLICY.window_seconds - ROUNDING]) <= POLICY.restarts
        now += life_seconds


def test_the_defaults_leave_room_for_an_order_in_each_wait():
    policy = UpkeepPolicy()
    assert policy.order_seconds < policy.load_seconds
    assert policy.order_seconds < 30.0  # or the pool gives a start up before it is known that the launcher hangs
