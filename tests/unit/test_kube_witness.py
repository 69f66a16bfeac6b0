"""A live replica is never taken for dead, whatever the observer misses; a dead one is found out in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool.kube.witness import DEAD_SECONDS, RENEW_SECONDS, Witness


def test_a_lease_that_does_not_change_is_a_dead_ones() -> None:
    witness = Witness()
    witness.read({"a": "1", "b": "1"}, (), now=0.0)
    witness.read({"a": "2", "b": "1"}, (), now=10.0)
    witness.read({"a": "3", "b": "1"}, (), now=DEAD_SECONDS)
    assert witness.dead(DEAD_SECONDS) == {"b"}


def test_after_an_outage_everybody_has_time_to_renew() -> None:
    witness = Witness()
    witness.read({"a": "1"}, (), now=0.0)
    witness.lost_sight()
    assert witness.dead(60.0) == set()
    witness.read({"a": "1"}, (), now=60.0)
    assert witness.dead(60.0) == set()
    assert witness.dead(60.0 + DEAD_SECONDS) == {"a"}


def test_an_owner_without_a_lease_is_dead_when_none_comes() -> None:
    witness = Witness()
    witness.read({}, ["a", "b"], now=0.0)
    witness.read({"b": "1"}, ["a", "b"], now=DEAD_SECONDS)
    assert witness.dead(DEAD_SECONDS) == {"a"}


def test_who_has_neither_lease_nor_pods_is_forgotten() -> None:
    witness = Witness()
    witness.read({"a": "1"}, (), now=0.0)
    witness.read({}, (), now=DEAD_SECONDS)
    assert witness.dead(DEAD_SECONDS * 2) == set()


reads = st.lists(st.tuples(st.floats(0.1, 30.0), st.booleans()), max_size=40)


@given(reads, st.floats(0.0, RENEW_SECONDS))
def test_one_that_renews_is_never_dead(reads: list[tuple[float, bool]], offset: float) -> None:
    """Its Lease changes every `RENEW_SECONDS`, but not while the API server is away; it is read now and then."""
    witness, now, renewed = Witness(), 0.0, 0
    for pause, succeeds in reads:
        now += pause
        if not succeeds:
            witness.lost_sight()
        else:
            renewed = max(renewed, int((now + offset) // RENEW_SECONDS))
            witness.read({"live": str(renewed)}, ["live"], now)
        assert witness.dead(now) == set()


@given(reads, st.floats(0.5, RENEW_SECONDS))
def test_one_that_is_dead_is_found_out_once_it_can_be_seen(reads: list[tuple[float, bool]], pause: float) -> None:
    witness, now = Witness(), 0.0
    for between, succeeds in reads:
        now += between
        if succeeds:
            witness.read({"dead": "1"}, ["dead"], now)
        else:
            witness.lost_sight()
    began = now
    while not witness.dead(now):
        now += pause
        witness.read({"dead": "1"}, ["dead"], now)
    assert now - began <= DEAD_SECONDS + 2 * pause
