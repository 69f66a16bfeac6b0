"""The ledger where callers do not trust each other, and where each has limits of its own."""

from __future__ import annotations

from pool.actions import Create, Delete, Grant
from pool.caller import Caller
from pool.ledger import Ledger
from pool.policy import Hold
from pool.states import Event, Retirement, State
from pool.waiting import WaiterId
from tests.ledgers import W1, W2, W3, W4, ledger_with, names, refused, want, warm


def apart(**changed: object) -> Ledger:
    """Sandboxes are used again, each by one caller."""
    return ledger_with(**{"max_runs_per_sandbox": 9, "reuse_within_caller": True, "canary_each": True, **changed})


def ran(ledger: Ledger, waiter: WaiterId, now: float, caller: str) -> str:
    """A run from its want until its sandbox is clean again; returns which it was."""
    grant = want(ledger, waiter, now, caller=caller)[0]
    assert isinstance(grant, Grant)
    ledger.leave(waiter, now=now)
    ledger.saw(grant.slot, Event.CLEANED, now=now)
    return grant.slot


def all_leave(ledger: Ledger, now: float) -> list[str]:
    """Everybody who holds a sandbox; returns which those were."""
    held = [(slot.name, slot.holder) for slot in ledger.slots.every(State.LEASED)]
    for _, holder in held:
        assert holder is not None
        ledger.leave(holder, now=now)
    return [name for name, _ in held]


def prove_all(ledger: Ledger, now: float) -> None:
    while starting := names(ledger, State.STARTING):
        ledger.saw(starting[0], Event.STARTED, now=now)


# --- whose a sandbox is ---


def test_a_sandbox_that_ran_a_tenants_program_runs_only_that_tenants():
    ledger = apart()
    now = warm(ledger)
    used = ran(ledger, W1, now, "a")
    assert ran(ledger, W2, now, "b") != used
    assert ran(ledger, W3, now, "a") == used


def test_a_tenant_uses_its_own_before_one_that_is_anybodys():
    ledger = apart(size=3)
    now = warm(ledger)
    used = ran(ledger, W1, now, "a")
    assert names(ledger, State.READY)[-1] == used, "the others have been ready for longer"
    assert ran(ledger, W2, now, "a") == used


def test_where_everybody_trusts_everybody_a_sandbox_goes_round():
    ledger = apart(reuse_within_caller=False, size=1)
    now = warm(ledger)
    assert ran(ledger, W1, now, "a") == ran(ledger, W2, now, "b")


def test_without_tenants_everyone_is_one():
    ledger = apart(size=1)
    now = warm(ledger)
    assert ran(ledger, W1, now, "") == ran(ledger, W2, now, "")


# --- when all that is ready is others' ---


def test_who_finds_only_others_sandboxes_has_one_made_and_an_idle_one_goes_for_it():
    ledger = apart(size=1)
    now = warm(ledger)
    theirs = ran(ledger, W1, now, "a")
    assert want(ledger, W2, now, caller="b") == [
        Create("s2", canary=False, not_before=now),
        Delete(theirs, Retirement.DISPLACED),
    ]
    assert ledger.saw("s2", Event.STARTED, now=now)[0] == Grant("s2", W2)


def test_one_who_waits_costs_one_sandbox_of_others_not_all():
    ledger = apart(size=3, startup_concurrency=1)
    now = warm(ledger)
    for waiter in (W1, W2, W3):
        want(ledger, waiter, now, caller="a")
    for name in all_leave(ledger, now):
        ledger.saw(name, Event.CLEANED, now=now)
    prove_all(ledger, now)
    before = names(ledger, State.READY)
    want(ledger, W4, now, caller="b")
    ledger.settle(now)
    assert len(names(ledger, State.READY)) == len(before) - 1


def full_of_one_tenants(waiting: int) -> tuple[Ledger, float, list[str]]:
    """No room for another sandbox: the limit is full of tenant a's, all of them being cleaned."""
    ledger = apart(size=1, max_in_flight=2, surge=1, queue=50, startup_concurrency=4)
    now = warm(ledger)
    for serial in range(100, 100 + waiting):
        want(ledger, WaiterId(serial), now, caller="a")
    while len(names(ledger, State.RECYCLING)) < ledger.settings.limit:
        prove_all(ledger, now)
        all_leave(ledger, now)
    return ledger, now, names(ledger, State.RECYCLING)


def test_where_there_is_no_room_the_next_that_comes_free_goes_before_its_tenant_has_it_again():
    ledger, now, cleaning = full_of_one_tenants(waiting=40)
    assert len(ledger.slots) == ledger.settings.limit
    assert ledger.waiting.count("a") > 0
    assert want(ledger, W1, now, caller="b", patience=1e6) == []
    assert replaced(ledger, cleaning[0], now) == [W1]
    assert isinstance(ledger.saw(cleaning[1], Event.CLEANED, now=now)[0], Grant), "one was enough"


def replaced(ledger: Ledger, name: str, now: float) -> list[WaiterId]:
    """It is clean, must go, and the one made in its place is granted; returns to whom."""
    assert ledger.saw(name, Event.CLEANED, now=now)[0] == Delete(name, Retirement.DISPLACED)
    [made] = [each.slot for each in ledger.saw(name, Event.DELETED, now=now) if isinstance(each, Create)]
    return [each.waiter for each in ledger.saw(made, Event.STARTED, now=now) if isinstance(each, Grant)]


def test_nothing_is_given_up_while_nothing_can_be_started():
    # A hold: whatever is given up now serves nobody, and its tenant has lost it.
    ledger, now, cleaning = full_of_one_tenants(waiting=40)
    ledger.hold = Hold("quota", "no quota left", until=now + 10)
    want(ledger, W1, now, caller="b", patience=1e6)
    actions = ledger.saw(cleaning[0], Event.CLEANED, now=now)
    assert [type(each) for each in actions] == [Grant]


def test_a_flood_of_short_programs_does_not_put_off_what_another_tenant_needs():
    # Elsewhere refill waits for short programs to end (`refill_eagerly`): here they never would.
    ledger = apart(size=2, max_in_flight=2, refill_eagerly=False)
    now = warm(ledger)
    for waiter in (W1, W2):
        ran(ledger, waiter, now, "a")
    want(ledger, W3, now, caller="a")
    actions = want(ledger, W4, now, caller="b")
    assert any(isinstance(each, Grant | Create) for each in actions)


# --- limits of one caller ---


def test_who_has_as_many_as_it_may_waits_although_one_is_ready():
    ledger = ledger_with()
    now = warm(ledger)
    want(ledger, W1, now, caller="a", max_in_flight=1)
    assert want(ledger, W2, now, caller="a", max_in_flight=1) == []
    assert want(ledger, W3, now, caller="b")[0] == Grant(names(ledger, State.LEASED)[-1], W3)
    assert any(isinstance(each, Grant) and each.waiter == W2 for each in ledger.leave(W1, now=now) + settled(ledger))


def settled(ledger: Ledger) -> list[object]:
    """Let what starts have started."""
    return [each for name in names(ledger, State.STARTING) for each in ledger.saw(name, Event.STARTED, now=9.0)]


def test_who_is_at_its_own_limit_blocks_nobody_behind_it():
    ledger = ledger_with(queue=9)
    now = warm(ledger)
    want(ledger, W1, now, caller="a", max_in_flight=1)
    want(ledger, W2, now, caller="a", max_in_flight=1)
    assert Grant(names(ledger, State.READY)[0], W3) in want(ledger, W3, now, caller="b")


def test_a_tenants_part_of_the_queue_is_its_own():
    ledger = ledger_with(size=1, max_in_flight=1, queue=9)
    now = warm(ledger)
    want(ledger, W1, now, caller="a", max_waiting=1)
    want(ledger, W2, now, caller="a", max_waiting=1)
    answer = refused(ledger, W3, now, caller="a", max_waiting=1)
    assert answer.queue_is_full
    assert answer.text.startswith("this tenant's part of the queue is full: 1 waiting, limit 1")
    assert want(ledger, W4, now, caller="b", max_waiting=1) == []


def test_a_queue_that_others_filled_has_a_place_for_the_first_of_a_tenant():
    ledger = ledger_with(size=1, max_in_flight=1, queue=1)
    now = warm(ledger)
    want(ledger, W1, now, caller="a")
    want(ledger, W2, now, caller="a")
    assert refused(ledger, W3, now, caller="a").queue_is_full
    assert want(ledger, W3, now, caller="b") == []
    assert refused(ledger, W4, now, caller="b").queue_is_full


def test_retry_after_of_who_is_at_its_own_limit_is_when_one_of_its_own_ends():
    ledger = ledger_with(size=2, queue=9)
    now = warm(ledger)
    want(ledger, W1, now, caller="a")
    ledger.leave(W1, now=now + 20.0)
    now = warm(ledger, now=now + 20.0)
    want(ledger, W2, now, caller="a", max_in_flight=1, max_waiting=0)
    answer = refused(ledger, W3, now, caller="a", max_in_flight=1, max_waiting=0)
    assert answer.retry_after_seconds == 20.0


def test_whom_their_own_limit_blocks_nobody_else_is_told_to_wait_for():
    ledger = ledger_with(size=2, max_in_flight=2, queue=50)
    now = warm(ledger)
    want(ledger, W1, now, caller="a")
    ledger.leave(W1, now=now + 10.0)
    now = warm(ledger, now=now + 10.0)
    want(ledger, W2, now, caller="a", max_in_flight=1)
    want(ledger, W3, now, caller="b")
    alone = ledger.expected_wait_seconds(Caller("c"), now)
    for serial in range(100, 140):
        want(ledger, WaiterId(serial), now, caller="a", max_in_flight=1, patience=1e6)
    assert ledger.expected_wait_seconds(Caller("c"), now) == alone == 5.0
    assert ledger.expected_wait_seconds(Caller("a", max_in_flight=1), now) > 400.0


def test_none_is_made_for_who_may_not_have_it():
    ledger = apart(size=1, max_in_flight=9, queue=9)
    now = warm(ledger)
    want(ledger, W1, now, caller="a", max_in_flight=1)
    for waiter in (W2, W3, W4):
        assert want(ledger, waiter, now, caller="a", max_in_flight=1) == []
    assert names(ledger, State.STARTING) == []


def test_no_more_than_one_is_made_for_tenants_who_may_not_be_leased_one_for_now():
    ledger = apart(size=2, max_in_flight=4, surge=8, queue=50, startup_concurrency=4)
    now = warm(ledger)
    for serial in range(100, 104):
        want(ledger, WaiterId(serial), now, caller="a")
        prove_all(ledger, now)
    assert len(names(ledger, State.LEASED)) == 4
    for serial in range(200, 210):
        want(ledger, WaiterId(serial), now, caller=f"b{serial}", patience=1e6)
    prove_all(ledger, now)
    assert len(names(ledger, State.READY)) <= ledger.settings.size + 1
