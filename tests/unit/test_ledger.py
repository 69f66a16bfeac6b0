"""The ledger's decisions, one at a time. What holds always is in tests/property/test_ledger.py."""

from __future__ import annotations

import pytest

from pool.actions import Create, Delete, Dismiss, Grant
from pool.states import Event, IllegalTransition, Retirement, State
from tests.ledgers import W1, W2, W3, W4, ledger_with, names, refused, want, warm

# --- starting ---


def test_a_canary_goes_first_and_alone():
    ledger = ledger_with()
    assert ledger.settle(0.0) == [Create("s1", canary=True, not_before=0.0)]
    assert ledger.settle(0.0) == []


def test_after_the_canary_the_others_start_on_their_hello_alone():
    ledger = ledger_with(size=4, startup_concurrency=4)
    ledger.settle(0.0)
    assert ledger.saw("s1", Event.PROVED, now=1.0) == [
        Delete("s1", Retirement.CANARY),
        Create("s2", canary=False, not_before=1.0),
        Create("s3", canary=False, not_before=1.0),
    ]
    started = ledger.saw("s2", Event.STARTED, now=2.0)
    assert started == [Create("s4", False, 2.0), Create("s5", False, 2.0)]


def test_a_canary_that_says_it_is_ready_is_a_bug_of_ours():
    ledger = ledger_with()
    ledger.settle(0.0)
    with pytest.raises(IllegalTransition):
        ledger.saw("s1", Event.STARTED, now=1.0)


def test_starts_go_side_by_side_only_so_far():
    ledger = ledger_with(size=8, startup_concurrency=2)
    ledger.settle(0.0)
    ledger.saw("s1", Event.PROVED, now=1.0)
    ledger.saw("s2", Event.STARTED, now=2.0)
    assert len(names(ledger, State.STARTING)) == 2


def test_a_failed_start_holds_and_starts_again_after_a_while():
    ledger = ledger_with()
    ledger.settle(0.0)
    actions = ledger.failed("s1", reason="image", text="no such image", now=1.0, jitter=1.0)
    assert actions == [Delete("s1", Retirement.START_FAILED), Create("s2", canary=True, not_before=1.25)]
    assert ledger.hold is not None
    assert ledger.hold.reason == "image"
    again = ledger.failed("s2", reason="image", text="no such image", now=2.0, jitter=1.0)
    assert again[-1] == Create("s3", canary=True, not_before=2.5)
    ledger.saw("s3", Event.PROVED, now=3.0)
    assert ledger.hold is None


def test_after_a_failure_starts_go_one_at_a_time():
    ledger = ledger_with(size=4)
    warm(ledger)
    for waiter in (W1, W2, W3):
        want(ledger, waiter, 10.0)
    first, second = names(ledger, State.STARTING)
    ledger.failed(first, reason="quota", text="", now=11.0, jitter=0.0)
    assert names(ledger, State.STARTING) == [second]


def test_a_failure_is_counted_once():
    ledger = ledger_with()
    ledger.settle(0.0)
    ledger.lost("s1", now=1.0, jitter=0.0)
    assert ledger.failed("s1", reason="hello", text="", now=1.0, jitter=0.0) == []
    assert ledger.hold is not None
    assert ledger.hold.reason == "lost"


def test_a_sandbox_that_ends_young_counts_as_a_failed_start():
    """Otherwise one that is warm for a moment would be made again and again without a pause."""
    ledger = ledger_with()
    now = warm(ledger)
    [name, _] = names(ledger, State.READY)
    actions = ledger.lost(name, now=now + 1.0, jitter=1.0)
    assert actions == [Delete(name, Retirement.START_FAILED), Create("s4", False, now + 1.25)]


def test_a_sandbox_that_ends_later_is_simply_replaced():
    ledger = ledger_with()
    now = warm(ledger) + 60.0
    [name, _] = names(ledger, State.READY)
    assert ledger.lost(name, now=now, jitter=1.0) == [Delete(name, Retirement.LOST), Create("s4", False, now)]
    assert ledger.hold is None


# --- leasing ---


def test_a_lease_costs_no_wait_and_is_replaced_at_once():
    ledger = ledger_with()
    now = warm(ledger)
    assert want(ledger, W1, now) == [Grant("s2", W1), Create("s4", False, now)]


def test_one_who_waits_gets_the_next_that_starts():
    ledger = ledger_with(size=1)
    now = warm(ledger)
    want(ledger, W1, now)
    assert want(ledger, W2, now) == []
    assert ledger.saw("s3", Event.STARTED, now=now)[0] == Grant("s3", W2)


def test_a_used_sandbox_is_retired():
    ledger = ledger_with()
    now = warm(ledger)
    want(ledger, W1, now)
    assert ledger.leave(W1, now=now) == [Delete("s2", Retirement.USED)]


def test_in_flight_is_bounded_although_some_are_ready():
    ledger = ledger_with(max_in_flight=1)
    now = warm(ledger)
    want(ledger, W1, now)
    assert want(ledger, W2, now) == []
    assert len(names(ledger, State.READY)) == 1
    assert Grant("s3", W2) in ledger.leave(W1, now=now)


def test_what_is_on_its_way_out_counts_against_the_limit():
    ledger = ledger_with(size=1, max_in_flight=1, surge=1, queue=9)
    now = warm(ledger)
    for waiter in (W1, W2):
        want(ledger, waiter, now)
        for slot in ledger.slots.every(State.STARTING):
            ledger.saw(slot.name, Event.STARTED, now=now)
        ledger.leave(waiter, now=now)
    assert len(ledger.slots) == 3 == ledger.settings.limit
    assert names(ledger, State.STARTING) == []
    [*_, doomed] = names(ledger, State.RETIRING)
    [created] = ledger.saw(doomed, Event.DELETED, now=now)
    assert isinstance(created, Create)


def test_callers_take_turns():
    ledger = ledger_with(size=1, queue=9)
    now = warm(ledger)
    want(ledger, W1, now, caller="crowd")
    want(ledger, W2, now, caller="crowd")
    want(ledger, W3, now, caller="crowd")
    want(ledger, W4, now, caller="guest")
    granted = []
    for name in ("s3", "s4"):
        granted += [each.waiter for each in ledger.saw(name, Event.STARTED, now=now) if isinstance(each, Grant)]
    assert granted == [W2, W4]


# --- refusing ---


def test_a_full_queue_refuses_with_numbers():
    ledger = ledger_with(size=1, queue=1)
    now = warm(ledger, start_seconds=4.0)
    want(ledger, W1, now)
    want(ledger, W2, now)
    refusal = refused(ledger, W3, now)
    assert "1 waiting, limit 1" in refusal.text
    assert refusal.queue_is_full
    assert refusal.retry_after_seconds == pytest.approx(4.0)


def test_no_queue_at_all_still_grants_what_is_ready():
    ledger = ledger_with(queue=0)
    now = warm(ledger)
    assert Grant("s2", W1) in want(ledger, W1, now)
    assert Grant("s3", W2) in want(ledger, W2, now)
    assert "limit 0" in refused(ledger, W3, now).text


def test_who_cannot_be_served_in_time_is_told_at_once():
    ledger = ledger_with(size=1, startup_concurrency=1)
    now = warm(ledger, start_seconds=5.0)
    want(ledger, W1, now)
    refusal = refused(ledger, W2, now, patience=4.0)
    assert "expected wait 5.00 s" in refusal.text
    assert "deadline in 4.00 s" in refusal.text
    assert not refusal.queue_is_full
    assert want(ledger, W3, now + 2.0, patience=4.0) == []


def test_nobody_is_refused_on_a_guess():
    ledger = ledger_with()
    ledger.settle(0.0)
    assert want(ledger, W1, 0.0, patience=0.001) == []


def test_one_slow_start_refuses_nobody_where_starts_are_only_for_who_waits():
    ledger = ledger_with(size=0, proved_elsewhere=True)
    want(ledger, W1, 0.0)
    ledger.saw("s1", Event.STARTED, now=20.0)
    ledger.leave(W1, now=21.0)
    ledger.saw("s1", Event.DELETED, now=22.0)
    assert want(ledger, W2, 22.0, patience=8.0) == [Create("s2", canary=False, not_before=22.0)]


def test_where_starts_are_only_for_who_waits_a_hold_refuses_whose_deadline_comes_first():
    ledger = ledger_with(size=0, proved_elsewhere=True)
    want(ledger, W1, 0.0)
    for serial in range(1, 6):
        ledger.failed(f"s{serial}", reason="quota", text="pods=8", now=1.0, jitter=1.0)
    assert "(quota)" in refused(ledger, W2, 1.0, patience=3.0).text
    want(ledger, W2, 1.0, patience=5.0)


def test_a_hold_refuses_whose_deadline_comes_first():
    ledger = ledger_with()
    ledger.settle(0.0)
    for serial in range(1, 7):
        ledger.failed(f"s{serial}", reason="quota", text="pods=8", now=1.0, jitter=1.0)
    refusal = refused(ledger, W1, 1.0, patience=7.0)
    assert "(quota)" in refusal.text
    assert refusal.retry_after_seconds == pytest.approx(8.0)
    assert want(ledger, W1, 1.0, patience=9.0) == []


def test_with_all_in_flight_the_wait_is_for_leases_to_end():
    ledger = ledger_with(max_in_flight=1)
    now = warm(ledger)
    want(ledger, W1, now)
    ledger.leave(W1, now=now + 20.0)
    want(ledger, W2, now + 20.0)
    assert "expected wait 20.00 s" in refused(ledger, W3, now + 20.0, patience=8.0).text


def test_a_long_run_that_holds_the_only_place_is_taken_into_the_time_to_come_back():
    ledger = ledger_with(size=1, max_in_flight=1, queue=1)
    now = warm(ledger, start_seconds=0.1)
    want(ledger, W1, now)
    ledger.leave(W1, now=now + 0.1)
    now = warm(ledger, now=now + 0.1, start_seconds=0.1)
    want(ledger, W2, now)
    want(ledger, W3, now)
    refusal = refused(ledger, W4, now + 4.0)
    assert "the queue is full: 1 waiting, limit 1; expected wait 4.10 s" in refusal.text
    assert refusal.retry_after_seconds == pytest.approx(4.1)


def test_nobody_is_refused_because_a_lease_is_old():
    ledger = ledger_with(size=1, max_in_flight=1)
    now = warm(ledger, start_seconds=0.1)
    want(ledger, W1, now)
    ledger.leave(W1, now=now + 0.1)
    now = warm(ledger, now=now + 0.1, start_seconds=0.1)
    want(ledger, W2, now)
    assert want(ledger, W3, now + 30.0, patience=8.0) == []


# --- idle ones ---


def test_one_that_is_probed_is_not_leased_until_it_has_answered():
    ledger = ledger_with(size=1)
    now = warm(ledger)
    ledger.saw("s2", Event.PROBE, now=now)
    assert want(ledger, W1, now) == []
    assert ledger.saw("s2", Event.ALIVE, now=now)[0] == Grant("s2", W1)


def test_one_that_does_not_answer_is_replaced():
    ledger = ledger_with(size=1)
    now = warm(ledger)
    ledger.saw("s2", Event.PROBE, now=now)
    actions = ledger.saw("s2", Event.CONDEMN, now=now, reason=Retirement.PROBE_FAILED)
    assert actions == [Delete("s2", Retirement.PROBE_FAILED), Create("s3", False, now)]


def test_an_idle_one_is_replaced_after_an_hour():
    ledger = ledger_with(size=1)
    now = warm(ledger)
    ledger.saw("s2", Event.PROBE, now=now + 3600.0)
    assert ledger.saw("s2", Event.ALIVE, now=now + 3600.0) == []
    ledger.saw("s2", Event.PROBE, now=now + 3601.0)
    assert ledger.saw("s2", Event.ALIVE, now=now + 3601.0)[0] == Delete("s2", Retirement.AGE)


def test_where_cpu_is_shared_refill_waits_for_programs_unless_the_pool_is_half_empty():
    ledger = ledger_with(size=4, max_in_flight=9, refill_eagerly=False)
    now = warm(ledger)
    assert want(ledger, W1, now) == [Grant("s2", W1)]
    assert want(ledger, W2, now) == [Grant("s3", W2)]
    assert want(ledger, W3, now)[1:] == [Create("s6", False, now), Create("s7", False, now)]
    patient = ledger_with(size=4, refill_eagerly=False)
    now = warm(patient)
    want(patient, W1, now)
    assert patient.leave(W1, now=now) == [Delete("s2", Retirement.USED), Create("s6", False, now)]
    patient.saw("s6", Event.STARTED, now=now)
    assert want(patient, W2, now) == [Grant("s3", W2)]
    assert patient.settle(now + 60.0) == [Create("s7", False, now + 60.0)]  # not for long ones


def test_the_answer_goes_first_unless_somebody_waits():
    ledger = ledger_with(size=1, max_in_flight=1, refill_eagerly=False, answer_first_seconds=0.5)
    now = warm(ledger)
    assert want(ledger, W1, now) == [Grant("s2", W1), Create("s3", False, now + 0.5)]
    ledger.saw("s3", Event.STARTED, now=now + 1.0)
    want(ledger, W2, now + 1.0)
    want(ledger, W3, now + 1.0)
    given_back = ledger.leave(W1, now=now + 2.0)
    assert given_back == [Delete("s2", Retirement.USED), Grant("s3", W2), Create("s4", False, now + 2.0)]


# --- generations ---


def test_a_new_generation_replaces_the_idle_ones_one_at_a_time_and_only_when_proved():
    ledger = ledger_with()
    now = warm(ledger)
    assert ledger.roll(2, now=now) == [Create("s4", canary=True, not_before=now)]
    assert ledger.saw("s4", Event.PROVED, now=now) == [
        Delete("s4", Retirement.CANARY),
        Delete("s2", Retirement.GENERATION),
        Create("s5", False, now),
    ]
    assert ledger.saw("s5", Event.STARTED, now=now)[0] == Delete("s3", Retirement.GENERATION)
    ledger.saw("s6", Event.STARTED, now=now)
    assert {slot.generation for slot in ledger.slots.every(State.READY)} == {2}


def test_an_old_generation_serves_while_the_new_one_cannot_start():
    ledger = ledger_with()
    now = warm(ledger)
    ledger.roll(2, now=now)
    ledger.failed("s4", reason="canary", text="", now=now, jitter=0.0)
    assert want(ledger, W1, now)[0] == Grant("s2", W1)


def test_one_that_was_starting_when_the_generation_changed_is_not_used():
    ledger = ledger_with(size=1)
    now = warm(ledger)
    want(ledger, W1, now)
    ledger.roll(2, now=now)
    assert ledger.saw("s3", Event.STARTED, now=now)[0] == Delete("s3", Retirement.GENERATION)


def test_a_leased_one_of_an_old_generation_is_retired_when_it_is_given_back():
    ledger = ledger_with(max_runs_per_sandbox=9)
    now = warm(ledger)
    want(ledger, W1, now)
    ledger.roll(2, now=now)
    assert ledger.leave(W1, now=now)[0] == Delete("s2", Retirement.GENERATION)


# --- closing ---


def test_close_dismisses_who_waits_ends_what_is_idle_and_leaves_leases_alone():
    ledger = ledger_with(size=1, max_in_flight=1)
    now = warm(ledger)
    want(ledger, W1, now)
    want(ledger, W2, now)
    assert ledger.close(now=now) == [Dismiss(W2), Delete("s3", Retirement.CLOSING)]
    assert ledger.leave(W1, now=now) == [Delete("s2", Retirement.CLOSING)]


def test_close_can_cut_leases():
    ledger = ledger_with(size=1)
    now = warm(ledger)
    want(ledger, W1, now)
    ledger.close(now=now)
    assert ledger.close(now=now, cut=True) == [Delete("s2", Retirement.CLOSING)]
    assert ledger.leave(W1, now=now) == []
