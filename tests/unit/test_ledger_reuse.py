"""The ledger's decisions where a sandbox may run more than one program."""

from __future__ import annotations

from pool.actions import Recycle
from pool.states import Event, State
from tests.ledgers import W1, W2, W3, W4, ledger_with, names, want, warm


def test_where_more_runs_are_allowed_an_uneventful_one_is_recycled():
    ledger = ledger_with(max_runs_per_sandbox=2)
    now = warm(ledger)
    want(ledger, W1, now)
    assert ledger.leave(W1, now=now) == [Recycle("s2")]
    ledger.saw("s2", Event.CLEANED, now=now)
    assert "s2" in names(ledger, State.READY)


def test_who_waits_for_one_that_is_being_cleaned_needs_no_other():
    ledger = ledger_with(max_runs_per_sandbox=2, canary_each=True)
    now = warm(ledger)
    for waiter in (W1, W2):
        want(ledger, waiter, now)
        ledger.leave(waiter, now=now)
    assert want(ledger, W3, now) == []
    assert want(ledger, W4, now) == []


def test_none_is_made_for_who_may_not_be_leased_one_for_now():
    ledger = ledger_with(max_runs_per_sandbox=9, max_in_flight=2, startup_concurrency=4)
    now = warm(ledger)
    for waiter in (W1, W2):
        want(ledger, waiter, now)
    assert [each for waiter in (W3, W4) for each in want(ledger, waiter, now)] == []
    assert len(names(ledger, State.LEASED)) == 2
