"""What the bodies of all requests hold of memory, and how it is shared between tenants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.body import BodyBudget, HeldBody
from broker.errors import BodiesFull

LIMIT = 1024


def greedy(budget: BodyBudget, tenant: str) -> Iterator[HeldBody]:
    """Bodies of one byte each, until there is no room."""
    while True:
        held = HeldBody(budget, tenant)
        try:
            held.take(1)
        except BodiesFull:
            return
        yield held


def test_without_keys_everyone_is_one_and_has_all_of_it():
    budget = BodyBudget(LIMIT)
    assert len(list(greedy(budget, ""))) == LIMIT
    with pytest.raises(BodiesFull, match="all requests together"):
        HeldBody(budget).take(1)


def test_each_tenant_finds_half_of_what_those_before_it_left():
    budget = BodyBudget(LIMIT)
    assert [len(list(greedy(budget, name))) for name in "abcd"] == [512, 256, 128, 64]
    with pytest.raises(BodiesFull, match="this tenant's requests"):
        HeldBody(budget, "a").take(1)


taken = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 700), st.booleans()), max_size=30)


@given(taken)
def test_what_is_released_is_there_again_and_there_is_never_more_than_the_limit(steps):
    budget, held = BodyBudget(LIMIT), list[HeldBody]()
    for tenant, size, ends in steps:
        each = HeldBody(budget, tenant)
        try:
            each.take(size)
            held.append(each)
        except BodiesFull:
            assert budget.held_bytes + size > LIMIT // 2, "refused although half of it was free"
        if ends and held:
            held.pop(0).release()
        assert 0 <= budget.held_bytes <= LIMIT
    for each in held:
        each.release()
        each.release()
    assert (budget.held_bytes, budget._by_tenant) == (0, {})
