from __future__ import annotations

import itertools

import pytest

from pool.states import TRANSITIONS, Event, IllegalTransition, State, after

EVERY = list(itertools.product(State, Event))
LEGAL = [(state, event) for state in State for event in TRANSITIONS[state]]


def test_every_state_has_a_row():
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("state", "event"), [pair for pair in EVERY if pair not in LEGAL], ids=str)
def test_what_is_not_in_the_table_raises(state, event):
    with pytest.raises(IllegalTransition, match=f"{event} while {state}"):
        after(state, event)


def test_a_leased_sandbox_becomes_ready_only_through_cleaned():
    """I6: take away CLEANED, and no way leads from LEASED to READY."""
    reached = {State.LEASED}
    while True:
        further = {
            after(state, event) for state, event in LEGAL if state in reached and event is not Event.CLEANED
        } | reached
        if further == reached:
            break
        reached = further
    assert reached == {State.LEASED, State.RECYCLING, State.RETIRING, State.GONE}


def test_only_a_ready_sandbox_is_leased():
    assert [state for state, event in LEGAL if event is Event.LEASE] == [State.READY]


def test_from_everywhere_there_is_a_way_to_the_end():
    for state in set(State) - {State.GONE}:
        assert after(state, Event.CONDEMN) is State.RETIRING
        assert after(state, Event.DELETED) is State.GONE


def test_nothing_comes_back_from_retiring():
    assert set(TRANSITIONS[State.RETIRING].values()) == {State.RETIRING, State.GONE}
    assert TRANSITIONS[State.GONE] == {}
