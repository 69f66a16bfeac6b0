"""A machine that does to a ledger whatever can happen, in any order, and holds it to I1-I9.

It keeps books of its own: who waits, who holds, what was ordered and not yet answered. An invariant is
checked either where an action comes in (`_take`) or after every step.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pool.actions import Action, Create, Delete, Dismiss, Grant, Recycle, Refusal
from pool.caller import Caller
from pool.ledger import Ledger
from pool.settings import PoolSettings
from pool.states import Event, Retirement, State
from pool.waiting import WaiterId

FAR_AWAY = 1e9

few = st.integers(min_value=1, max_value=3)
some_settings = st.builds(
    PoolSettings,
    size=st.integers(min_value=0, max_value=4),
    max_in_flight=few,
    surge=few,
    queue=st.integers(min_value=0, max_value=4),
    startup_concurrency=few,
    refill_eagerly=st.booleans(),
    max_unavailable=few,
    max_runs_per_sandbox=few,
    canary_each=st.booleans(),
    proved_elsewhere=st.booleans(),
    reuse_within_caller=st.booleans(),
)
# Sandboxes that stay with a caller matter only after a run, a cleaning and another's want, which chance seldom brings.
apart = st.builds(
    PoolSettings,
    size=st.just(1),
    max_in_flight=few,
    surge=few,
    queue=st.just(4),
    max_runs_per_sandbox=st.just(9),
    canary_each=st.booleans(),
    reuse_within_caller=st.just(True),
)
CALLERS = (Caller("a"), Caller("b", max_in_flight=1), Caller("c", max_in_flight=2, max_waiting=1))


class LedgerMachine(RuleBasedStateMachine):
    ledger_class = Ledger

    @initialize(settings=some_settings | apart)
    def begin(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.ledger = self.ledger_class(settings, generation=1)
        self.now = 100.0
        self.serial = 0
        self.waits: set[WaiterId] = set()
        self.holds: dict[WaiterId, str] = {}
        self.exist: set[str] = set()
        self.canaries: set[str] = set()
        self.doomed: set[str] = set()
        self.dirty: set[str] = set()
        """Leased, and not proved clean since."""
        self.callers: dict[WaiterId, Caller] = {}
        """Of everybody who ever wanted."""
        self.owners: dict[str, str] = {}
        """Who has held a slot."""
        self._take(self.ledger.settle(self.now))

    # --- what the ledger orders ---

    def _take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Create():
                    self._created(action)
                case Grant():
                    self._granted(action)
                case Delete():
                    assert action.slot in self.exist - self.doomed, "I7: deleted once, and only what exists"
                    self.doomed.add(action.slot)
                case Recycle():
                    assert action.slot in self.dirty - self.doomed, "I7: recycled, and was not leased"
                case Dismiss():
                    assert self.ledger.closed, "dismissed while open"
                    assert action.waiter in self.waits, "I5: dismissed, and does not wait"
                    self.waits.remove(action.waiter)

    def _created(self, action: Create) -> None:
        assert action.slot not in self.exist, "I7: created twice"
        assert not self.ledger.closed, "I8: created after close"
        assert action.not_before >= (self.ledger.hold.until if self.ledger.hold else self.now), "no churn in a hold"
        self.exist.add(action.slot)
        assert len(self.exist) <= self.settings.limit, "I4: within the limit"
        if action.canary:
            self.canaries.add(action.slot)

    def _granted(self, action: Grant) -> None:
        assert action.waiter in self.waits, "I5: granted to somebody who waits"
        assert action.slot in self.exist - self.doomed - self.canaries, "I7: granted what is there to be leased"
        assert action.slot not in self.dirty, "I6: leased clean"
        assert action.slot not in self.holds.values(), "I2: one holder"
        caller = self.callers[action.waiter]
        is_own = self.owners.setdefault(action.slot, caller.name) == caller.name
        assert is_own or not self.settings.reuse_within_caller, "I9: another caller has held it"
        self.waits.remove(action.waiter)
        self.holds[action.waiter] = action.slot
        assert self._leases(caller) <= (caller.max_in_flight or FAR_AWAY), "above the caller's own limit"
        self.dirty.add(action.slot)

    # --- what callers do ---

    @rule(caller=st.sampled_from(CALLERS), patience=st.sampled_from([0.0, 1.0, FAR_AWAY]))
    def want(self, caller: Caller, patience: float) -> None:
        self.serial += 1
        waiter = WaiterId(self.serial)
        self.callers[waiter] = caller
        could_have_one = self._could_have_one(caller) and not self.ledger.closed
        is_full = self._has_no_place(caller)
        answer = self.ledger.want(waiter, caller=caller, deadline=self.now + patience, now=self.now)
        if isinstance(answer, Refusal):
            assert not could_have_one, "refused although one was ready"
            assert answer.retry_after_seconds > 0
            assert answer.queue_is_full == is_full, "told that the queue is full, and it is not"
        else:
            self.waits.add(waiter)
            self._take(answer)
            assert not could_have_one or waiter in self.holds, "I3: waits although one was ready"

    @rule(data=st.data(), doubt=st.sampled_from([None, None, Retirement.CANCELLED]))
    @precondition(lambda self: self.waits or self.holds)
    def leave(self, data: st.DataObject, doubt: Retirement | None) -> None:
        waiter = data.draw(st.sampled_from(sorted({*self.waits, *self.holds})))
        slot = self.holds.pop(waiter, None)
        self.waits.discard(waiter)
        actions = self.ledger.leave(waiter, now=self.now, doubt=doubt)
        given_back = [each for each in actions if isinstance(each, Delete | Recycle) and each.slot == slot]
        assert len(given_back) == (slot is not None), "I7: a Grant is answered by one leave"
        assert doubt is None or not any(isinstance(each, Recycle) for each in given_back), "I6: recycled in doubt"
        self._take(actions)
        assert self.ledger.leave(waiter, now=self.now) == [], "safe to call twice"

    @rule(data=st.data())
    @precondition(lambda self: self.holds)
    def runs_to_its_end_and_is_cleaned(self, data: st.DataObject) -> None:
        """Two steps that chance alone seldom takes one after the other."""
        waiter = data.draw(st.sampled_from(sorted(self.holds)))
        slot = self.holds.pop(waiter)
        actions = self.ledger.leave(waiter, now=self.now)
        assert any(isinstance(each, Delete | Recycle) for each in actions), "I7: a Grant is answered by one leave"
        self._take(actions)
        if slot in self._in(State.RECYCLING):
            self.dirty.discard(slot)
            self._take(self.ledger.saw(slot, Event.CLEANED, now=self.now))

    @rule()
    def everything_starts(self) -> None:
        for name in self._in(State.STARTING):
            self._take(self.ledger.saw(name, Event.PROVED if name in self.canaries else Event.STARTED, now=self.now))

    # --- what sandboxes do ---

    @rule(data=st.data())
    def starts(self, data: st.DataObject) -> None:
        if name := self._pick(data, State.STARTING):
            event = Event.PROVED if name in self.canaries else Event.STARTED
            self._take(self.ledger.saw(name, event, now=self.now))

    @rule(data=st.data(), jitter=st.floats(0, 1))
    def fails_to_start(self, data: st.DataObject, jitter: float) -> None:
        if name := self._pick(data, State.STARTING, State.RETIRING):
            self._take(self.ledger.failed(name, reason="error", text="no luck", now=self.now, jitter=jitter))

    @rule(data=st.data(), jitter=st.floats(0, 1))
    def is_lost(self, data: st.DataObject, jitter: float) -> None:
        if name := self._pick(data, *State):
            self._take(self.ledger.lost(name, now=self.now, jitter=jitter))

    @rule(data=st.data())
    def is_probed(self, data: st.DataObject) -> None:
        if name := self._pick(data, State.READY):
            self._take(self.ledger.saw(name, Event.PROBE, now=self.now))

    @rule(data=st.data(), is_alive=st.booleans())
    def answers_the_probe(self, data: st.DataObject, is_alive: bool) -> None:
        if name := self._pick(data, State.PROBING):
            event = Event.ALIVE if is_alive else Event.CONDEMN
            self._take(self.ledger.saw(name, event, now=self.now, reason=Retirement.PROBE_FAILED))

    @rule(data=st.data())
    def is_cleaned(self, data: st.DataObject) -> None:
        if name := self._pick(data, State.RECYCLING):
            self.dirty.discard(name)
            self._take(self.ledger.saw(name, Event.CLEANED, now=self.now))

    @rule(data=st.data())
    def is_condemned(self, data: st.DataObject) -> None:
        if name := self._pick(data, *State):
            self._lose_holder(name)
            self._take(self.ledger.saw(name, Event.CONDEMN, now=self.now))

    @rule(data=st.data())
    @precondition(lambda self: self.exist)
    def is_gone(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.exist)))
        self._lose_holder(name)
        self._forget(name)
        self._take(self.ledger.saw(name, Event.DELETED, now=self.now))
        assert self.ledger.saw(name, Event.STARTED, now=self.now) == [], "late news is no news"

    @rule(data=st.data())
    @precondition(lambda self: self.doomed)
    def deletion_is_done(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.doomed)))
        self._forget(name)
        self._take(self.ledger.saw(name, Event.DELETED, now=self.now))

    # --- what else happens ---

    @rule(seconds=st.sampled_from([0.01, 1.0, 10.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        # The shell settles once a program has become a long one (tests/unit/test_pool.py).
        self._take(self.ledger.settle(self.now))

    @rule()
    def generation_rolls(self) -> None:
        self._take(self.ledger.roll(self.ledger.generation + 1, now=self.now))
        assert self.ledger.roll(1, now=self.now) == []

    @rule(cut=st.booleans())
    @precondition(lambda self: self.serial > 8)
    def close(self, cut: bool) -> None:
        self._take(self.ledger.close(now=self.now, cut=cut))
        assert not self.waits, "I8: still waiting"
        if cut:
            self.holds.clear()

    # --- what must hold after each step ---

    @invariant()
    def i1_a_slot_is_leased_iff_it_has_a_holder(self) -> None:
        every = self.ledger.slots.every()
        assert all((slot.state is State.LEASED) == (slot.holder is not None) for slot in every), "I1"

    @invariant()
    def i2_one_holder_one_slot(self) -> None:
        held = {slot.name: slot.holder for slot in self.ledger.slots.every(State.LEASED)}
        assert held == {slot: waiter for waiter, slot in self.holds.items()}, "I2: held by who was granted"
        assert len(set(held.values())) == len(held), "I2: one slot"
        assert len(held) <= self.settings.max_in_flight, "in flight without bound"

    @invariant()
    def i3_nobody_waits_while_a_slot_is_ready_that_this_waiter_may_use(self) -> None:
        assert not any(self._could_have_one(self.callers[waiter]) for waiter in self.waits), "I3"
        assert len(self.ledger.waiting) == len(self.waits), "I5: a ghost waits"

    @invariant()
    def i9_what_is_on_its_way_to_a_caller_is_on_the_books_as_its_own(self) -> None:
        owners = {slot.name: slot.caller for slot in self.ledger.slots.every() if slot.caller is not None}
        assert {name: self.owners[name] for name in owners} == owners or not self.settings.reuse_within_caller, "I9"

    @invariant()
    def nobody_is_shut_out(self) -> None:
        """By I9: nothing is coming that this waiter may use, and what is idle is kept for others."""
        room_is_coming = len(self.ledger.slots) == self.settings.limit and self._in(State.RETIRING)
        if self.ledger.hold or self.ledger.closed or self._in(State.STARTING) or room_is_coming:
            return
        idle = self._in(State.READY)
        for caller in {self.callers[waiter] for waiter in self.waits}:
            coming = self._in(State.READY, State.PROBING, State.RECYCLING)
            is_out = self._may_lease(caller) and not any(self._may_use(caller, name) for name in coming)
            assert not (is_out and idle), "a caller is shut out"

    @invariant()
    def i4_never_more_than_the_limit(self) -> None:
        assert len(self.ledger.slots) <= self.settings.limit, "I4"

    @invariant()
    def i6_what_is_ready_is_clean(self) -> None:
        assert not self.dirty & {*self._in(State.READY), *self._in(State.PROBING)}, "I6: ready and dirty"

    @invariant()
    def i7_what_was_created_is_on_the_books_until_it_is_deleted(self) -> None:
        assert {slot.name for slot in self.ledger.slots.every()} == self.exist, "I7: on the books"
        assert set(self._in(State.RETIRING)) == self.doomed, "I7: Delete was ordered"

    @invariant()
    def the_wait_that_is_told_is_at_least_the_one_that_refuses(self) -> None:
        for caller in CALLERS:
            least = self.ledger._least_wait_seconds(caller, self.now)
            assert 0.0 <= least <= self.ledger.expected_wait_seconds(caller, self.now) * (1 + 1e-9), "expected too soon"

    @invariant()
    def nobody_is_told_to_wait_for_whom_their_own_limit_blocks(self) -> None:
        for caller in CALLERS:
            others = [other for other in CALLERS if other != caller]
            most = self._waits(caller) + sum(min(self._waits(each), self._room(each)) for each in others)
            assert self._waits(caller) <= self.ledger.sharing.ahead_of(caller) <= most, "behind who is blocked"

    @invariant()
    def every_event_leaves_everything_decided(self) -> None:
        assert self.ledger.settle(self.now) == [], "unsettled"

    def teardown(self) -> None:
        """I8: after close, with every Delete carried out, nothing is left."""
        if not hasattr(self, "ledger"):
            return
        self._take(self.ledger.close(now=self.now))
        for waiter in sorted(self.holds):
            self._take(self.ledger.leave(waiter, now=self.now))
        assert self.exist == self.doomed, "I8: not ended"
        for name in sorted(self.exist):
            assert self.ledger.saw(name, Event.DELETED, now=self.now) == []
        assert len(self.ledger.slots) == len(self.ledger.waiting) == 0, "I8: something is left"

    # --- the machine's own ---

    def _in(self, *states: State) -> list[str]:
        return sorted(slot.name for slot in self.ledger.slots.every(*states))

    def _pick(self, data: st.DataObject, *states: State) -> str | None:
        names = self._in(*states)
        return data.draw(st.sampled_from(names)) if names else None

    def _has_room_to_lease(self) -> bool:
        return len(self._in(State.LEASED)) < self.settings.max_in_flight

    def _waits(self, caller: Caller) -> int:
        return sum(self.callers[waiter].name == caller.name for waiter in self.waits)

    def _room(self, caller: Caller) -> int:
        """How many more it may lease by its own limit."""
        return (caller.max_in_flight or int(FAR_AWAY)) - self._leases(caller)

    def _leases(self, caller: Caller) -> int:
        return sum(self.callers[waiter].name == caller.name for waiter in self.holds)

    def _may_lease(self, caller: Caller) -> bool:
        return self._room(caller) > 0

    def _may_use(self, caller: Caller, name: str) -> bool:
        return not self.settings.reuse_within_caller or self.owners.get(name, caller.name) == caller.name

    def _could_have_one(self, caller: Caller) -> bool:
        may_use_one = any(self._may_use(caller, name) for name in self._in(State.READY))
        return may_use_one and self._has_room_to_lease() and self._may_lease(caller)

    def _has_no_place(self, caller: Caller) -> bool:
        mine = self._waits(caller)
        queue = self.settings.queue
        return mine >= (FAR_AWAY if caller.max_waiting is None else caller.max_waiting) or (
            len(self.waits) >= queue and (mine > 0 or queue == 0)
        )

    def _lose_holder(self, name: str) -> None:
        self.holds = {waiter: slot for waiter, slot in self.holds.items() if slot != name}

    def _forget(self, name: str) -> None:
        for names in (self.exist, self.doomed, self.dirty, self.canaries):
            names.discard(name)
        self.owners.pop(name, None)
