"""No two live sandboxes have one id, however long some of them live."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.local.host_ids import FIRST_HOST_ID, HOST_IDS, HostIds

FIRST, COUNT = 1000, 7


def small(start: int = 0) -> HostIds:
    return HostIds(FIRST, COUNT, start)


@settings(deadline=None)
@given(start=st.integers(0, COUNT - 1), takes=st.lists(st.integers(-1, COUNT), max_size=60))
def test_an_id_is_never_out_twice(start: int, takes: list[int]):
    # -1 takes one; n gives back the n-th that is out, if there is one.
    ids = small(start)
    out: list[int] = []
    for step in takes:
        if step >= 0:
            if step < len(out):
                ids.give_back(out.pop(step))
        elif len(out) < COUNT:
            taken = ids.take()
            assert taken in range(FIRST, FIRST + COUNT)
            assert taken not in out
            out.append(taken)


def test_ids_are_taken_in_turn():
    ids = small()
    taken = []
    for _ in range(COUNT + 1):
        taken.append(ids.take())
        ids.give_back(taken[-1])
    assert taken == [*range(FIRST, FIRST + COUNT), FIRST]


def test_whoever_lives_on_is_passed_over_in_every_round():
    ids = small()
    lives_on = ids.take()
    for _ in range(3 * COUNT):
        other = ids.take()
        assert other != lives_on
        ids.give_back(other)


def test_when_all_are_out_there_is_none_until_one_comes_back():
    ids = small(start=3)
    out = [ids.take() for _ in range(COUNT)]
    with pytest.raises(LookupError, match="all 7 ids"):
        ids.take()
    ids.give_back(out[4])
    assert ids.take() == out[4]


def test_giving_back_twice_is_giving_back_once():
    ids = small()
    one = ids.take()
    ids.give_back(one)
    ids.give_back(one)
    assert sorted(ids.take() for _ in range(COUNT)) == list(range(FIRST, FIRST + COUNT))


def test_services_on_one_machine_begin_at_different_places():
    starts = {HostIds().take() for _ in range(20)}
    assert len(starts) > 1
    assert all(FIRST_HOST_ID <= each < FIRST_HOST_ID + HOST_IDS for each in starts)


def test_the_range_is_out_of_the_way():
    # 0xFFFFFFFF means "no id", ids from 2**31 on are signed in some programs, and /etc/subuid hands out below 2**30.
    assert FIRST_HOST_ID >= 2**30
    assert FIRST_HOST_ID + HOST_IDS <= 2**31
