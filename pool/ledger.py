"""Every slot and every waiter, and the decisions about them. Pure: no I/O, no clock, no chance, no tasks.

Each method takes what happened and when, changes the books, and returns the work to do. The caller
does the work. Nothing here awaits, so nothing here can be cancelled half-way.

I1  A slot is LEASED if and only if it has a holder.
I2  One holder, one slot.
I3  Nobody waits while a slot is READY that this waiter may use (while fewer than `max_in_flight` are leased,
    and fewer of this caller than it may lease).
I4  Slots that exist, or are being made or unmade, never exceed `limit`.
I5  A waiter that left holds nothing.
I6  LEASED becomes READY only through CLEANED.
I7  Every Grant is answered by exactly one `leave`; every Create by STARTED or DELETED.
I8  After close nothing is left: no waiter, no slot.
I9  With `reuse_within_caller`, a slot that a caller has held is never granted to another.

Nobody is shut out by I9. Whoever waits and may use nothing that is there has one made. If that makes more than `size`,
idle slots of single callers go; if there is no room even to begin, the next that comes free goes, before its own
caller is granted it again.

Record, then act: a slot is STARTING from the moment its Create is returned. Counting only what a
watch has shown would create again and again while it lags (kubernetes-sigs/agent-sandbox#1215).
"""

from __future__ import annotations

from collections.abc import Iterable

from pool import policy
from pool.actions import Action, Create, Delete, Dismiss, Grant, Recycle, Refusal
from pool.caller import Caller
from pool.settings import PoolSettings
from pool.sharing import Sharing
from pool.slots import Slot, Slots
from pool.states import Event, IllegalTransition, Retirement, State
from pool.waiting import WaiterId, Waiting

S, E = State, Event


class Ledger:
    """The books. `now` is read from any clock that does not go back."""

    def __init__(self, settings: PoolSettings, *, generation: int) -> None:
        self.settings = settings
        self.generation = generation
        self.proved: int | None = None
        """The newest generation whose canary has passed."""
        self.closed = False
        self.slots = Slots()
        self.waiting = Waiting()
        self.sharing = Sharing(settings, self.slots, self.waiting)
        self.hold: policy.Hold | None = None
        self._start_seconds: float | None = None
        self._lease_seconds: float | None = None
        self._failures = 0
        self._at_once = 1
        self._serial = 0

    # --- what happened ---

    def want(self, waiter: WaiterId, *, caller: Caller, deadline: float, now: float) -> list[Action] | Refusal:
        """Someone wants a sandbox: granted, queued, or refused at once."""
        if not self._is_free(caller) and (refusal := self._refusal(caller, deadline, now)):
            return refusal
        self.waiting.add(waiter, caller)
        return self.settle(now)

    def leave(self, waiter: WaiterId, *, now: float, doubt: Retirement | None = None) -> list[Action]:
        """The waiter is gone, whether queued, granted or neither. Safe to call twice.

        `doubt` says why the sandbox must not be used again, if there is a reason beyond its having been used.
        """
        if self.waiting.remove(waiter):
            return self.settle(now)
        slot = self.slots.held_by(waiter)
        return [] if slot is None else [*self._release(slot, now, doubt), *self.settle(now)]

    def saw(self, name: str, event: Event, *, now: float, reason: Retirement = Retirement.LOST) -> list[Action]:
        """A slot's sandbox has started, answered, gone… `reason` says why it is condemned."""
        slot = self.slots.get(name)
        if slot is None:
            return []  # late news of a slot that is forgotten
        return [*self._saw(slot, event, now, reason), *self.settle(now)]

    def failed(self, name: str, *, reason: str, text: str, now: float, jitter: float) -> list[Action]:
        """A start came to nothing: hold, and wait longer each time, so that a lasting cause makes no churn."""
        slot = self.slots.get(name)
        if slot is None or slot.state is S.RETIRING:
            return []
        self._failures += 1
        self._at_once = 1
        self.hold = policy.hold_after(self._failures, reason=reason, text=text, now=now, jitter=jitter)
        return [*self._condemn(slot, Retirement.START_FAILED, now), *self.settle(now)]

    def lost(self, name: str, *, now: float, jitter: float) -> list[Action]:
        """A sandbox has ended by itself. Its holder, if any, finds out by itself and leaves."""
        slot = self.slots.get(name)
        if slot is None or slot.state is S.LEASED:
            return []
        if slot.state is S.STARTING or now - slot.born < policy.YOUNG_SECONDS:
            return self.failed(name, reason="lost", text="it ended by itself", now=now, jitter=jitter)
        return self.saw(name, E.CONDEMN, now=now, reason=Retirement.LOST)

    def roll(self, generation: int, *, now: float) -> list[Action]:
        """The backend makes sandboxes of this generation from now on."""
        if generation <= self.generation:
            return []
        self.generation = generation
        return self.settle(now)

    def close(self, *, now: float, cut: bool = False) -> list[Action]:
        """No more wants. Leases go on, unless they are to be cut. Safe to call again."""
        self.closed = True
        dismissed = [Dismiss(waiter) for waiter in self.waiting.clear()]
        doomed = [slot for slot in self.slots.every() if cut or slot.state is not S.LEASED]
        return [*dismissed, *(each for slot in doomed for each in self._condemn(slot, Retirement.CLOSING, now))]

    def settle(self, now: float) -> list[Action]:
        """Grant what is ready, retire what is out of date, start what is missing."""
        if self.closed:
            return []
        return [*self._make_way(now), *self._grants(now), *self._roll(now), *self._creates(now), *self._displace(now)]

    # --- how long it takes ---

    def expected_wait_seconds(self, caller: Caller, now: float) -> float:
        """How long one more of this caller would wait, from what has been measured; 0 while nothing has been."""
        start_seconds = max(self._start_wait_seconds(caller, now), self._held_seconds(now))
        return max(start_seconds, self._lease_wait_seconds(caller, now))

    def _least_wait_seconds(self, caller: Caller, now: float) -> float:
        """The same, without the guesses on which nobody is refused: every lease has just begun, not gone on for long;
        and where one is started only for who waits, the next start may be quick: nobody else would find out."""
        start_seconds = self._start_wait_seconds(caller, now) if self.settings.size else self._held_seconds(now)
        return max(start_seconds, self._lease_wait_seconds(caller, None))

    def _held_seconds(self, now: float) -> float:
        """Until one is started, at the soonest."""
        return max(0.0, self.hold.until - now) if self.hold and not self.settings.size else 0.0

    def _lease_wait_seconds(self, caller: Caller, leases_until: float | None) -> float:
        wait_seconds = 0.0
        if not self._may_lease_more():
            ahead = self.sharing.ahead_of(caller)
            wait_seconds = self._release_wait_seconds(ahead, self.slots.every(S.LEASED), leases_until)
        if not self.sharing.has_room(caller):
            theirs = self.slots.every_of(caller.name, S.LEASED)
            ahead = self.waiting.count(caller.name)
            wait_seconds = max(wait_seconds, self._release_wait_seconds(ahead, theirs, leases_until))
        return wait_seconds

    def _start_wait_seconds(self, caller: Caller, now: float) -> float:
        ahead = self.sharing.ahead_of(caller)
        if self._may_lease_more() and self.sharing.coming_back(caller.name) > ahead:
            return 0.0  # back in a moment, as a rule: nobody is refused for want of them
        if self._may_lease_more() and not self.sharing.has_room(caller) and self.slots.count(S.READY):
            return 0.0  # its own limit keeps it waiting, not a want of sandboxes
        return policy.start_wait_seconds(
            ahead,
            now=now,
            starting_since=sorted(slot.since for slot in self.slots.every(S.STARTING)),
            start_seconds=self._start_seconds or 0.0,
            at_once=self.settings.startup_concurrency,
        )

    def _release_wait_seconds(self, ahead: int, leases: Iterable[Slot], until: float | None) -> float:
        ages = [0.0 if until is None else until - slot.since for slot in leases]
        return policy.release_wait_seconds(ahead, lease_seconds=self._lease_seconds or 0.0, ages=ages)

    def retry_after_seconds(self, caller: Caller, now: float) -> float:
        return policy.retry_after_seconds(self.expected_wait_seconds(caller, now))

    def _refusal(self, caller: Caller, deadline: float, now: float) -> Refusal | None:
        wait, retry_after_seconds = self.expected_wait_seconds(caller, now), self.retry_after_seconds(caller, now)
        if full := self._full(caller):
            return Refusal(f"{full}; expected wait {wait:.2f} s", retry_after_seconds, queue_is_full=True)
        if now + self._least_wait_seconds(caller, now) > deadline:
            numbers = f"{len(self.waiting)} waiting, limit {self.settings.queue}; expected wait {wait:.2f} s"
            why = f"; sandboxes cannot be started ({self.hold.reason})" if self.hold else ""
            text = f"no sandbox before the deadline in {max(0.0, deadline - now):.2f} s: {numbers}{why}"
            return Refusal(text, retry_after_seconds, queue_is_full=False)
        return None

    def _full(self, caller: Caller) -> str | None:
        """Why there is no place in the queue, or None."""
        waiting, mine = len(self.waiting), self.waiting.count(caller.name)
        if caller.max_waiting is not None and mine >= caller.max_waiting:
            return f"this tenant's part of the queue is full: {mine} waiting, limit {caller.max_waiting}"
        # A flood must not keep others out of the queue in which they would have their turn.
        if waiting >= self.settings.queue and (mine or not self.settings.queue):
            return f"the queue is full: {waiting} waiting, limit {self.settings.queue}"
        return None

    # --- decisions ---

    def _may_lease_more(self) -> bool:
        return self.slots.count(S.LEASED) < self.settings.max_in_flight

    def _is_free(self, caller: Caller) -> bool:
        """One more would be served at once. Nobody who could use it waits then (I3), so nobody is overtaken."""
        return not self.closed and self._may_lease_more() and self._slot_for(caller) is not None

    def _slot_for(self, caller: Caller) -> Slot | None:
        return self.sharing.ready_for(caller) if self.sharing.has_room(caller) else None

    def _grants(self, now: float) -> list[Action]:
        granted: list[Action] = []
        while (grant := self._next_grant(now)) is not None:
            granted.append(grant)
        return granted

    def _next_grant(self, now: float) -> Grant | None:
        """To the first in turn who may use one that is ready. Whoever may use none keeps its turn."""
        if not self.slots.count(S.READY) or not self._may_lease_more():
            return None
        for caller in self.waiting.callers():
            if slot := self._slot_for(caller):
                return self._grant(slot, caller.name, now)
        return None

    def _grant(self, slot: Slot, caller: str, now: float) -> Grant:
        waiter = self.waiting.take(caller)
        self.slots.move(slot, E.LEASE, now, caller=caller)
        slot.holder = waiter
        slot.runs += 1
        return Grant(slot.name, waiter)

    def _make_way(self, now: float) -> list[Action]:
        """There is no room to make one for who may use none: the next idle one goes, before its caller has it again."""
        room = self.settings.limit - len(self.slots) + self.slots.count(S.STARTING, S.RETIRING)
        if room or self.hold or not self.sharing.somebody_is_shut_out():
            return []
        return [
            each
            for slot in self.sharing.owned_and_idle()[:1]
            for each in self._condemn(slot, Retirement.DISPLACED, now)
        ]

    def _displace(self, now: float) -> list[Action]:
        """While some are made for who may use no idle one, those that only one caller may use go down to `size`."""
        if not self.sharing.is_within_caller or not self.slots.count(S.STARTING):
            return []
        excess = self.slots.count(S.STARTING, S.READY, S.PROBING) - self.settings.size
        idle = self.sharing.owned_and_idle()[: max(0, excess)]
        return [each for slot in idle for each in self._condemn(slot, Retirement.DISPLACED, now)]

    def _roll(self, now: float) -> list[Action]:
        """Retire idle slots of an older generation, keeping all but `max_unavailable` of `size` in stock.

        Nothing is given up for a generation that has not been proved: its canary may never pass.
        """
        if self.proved != self.generation:
            return []
        old = [slot for slot in self.slots.every(S.READY) if slot.generation != self.generation]
        spare = self.slots.count(S.READY) - (self.settings.size - self.settings.max_unavailable)
        return [each for slot in old[: max(0, spare)] for each in self._condemn(slot, Retirement.GENERATION, now)]

    def _creates(self, now: float) -> list[Action]:
        return [self._create(now) for _ in range(self._shortfall(now))]

    def _shortfall(self, now: float) -> int:
        """How many to start now."""
        starting, room = self.slots.count(S.STARTING), self.settings.limit - len(self.slots)
        if self._needs_canary():
            return max(0, min(room, 1 - starting))  # the canary goes first, and alone
        if not self._may_refill(now):
            return 0
        stock = self.slots.count(S.STARTING, S.READY, S.PROBING, S.RECYCLING) + self._returning()
        starts_for_waiters = self.settings.reuses or not self.settings.size
        missing = max(self.settings.size - stock, self.sharing.unserved() if starts_for_waiters else 0)
        return max(0, min(room, missing, self._at_once - starting))

    def _needs_canary(self) -> bool:
        proved = self.proved == self.generation or self.settings.proved_elsewhere
        return not proved and not self.settings.canary_each

    def _returning(self) -> int:
        """Those that come back after their lease, as a rule: for them no others need be made while nobody waits."""
        most = self.settings.max_runs_per_sandbox
        return sum(slot.runs < most for slot in self.slots.every(S.LEASED)) if self.settings.reuses else 0

    def _may_refill(self, now: float) -> bool:
        """Starting a sandbox takes CPU from the programs that run: where CPU is shared it waits for the short ones.

        But not where somebody has none to use: under a flood of short programs that wait would never end.
        """
        last = self.slots.last(S.LEASED)
        eager = self.settings.refill_eagerly or last is None or now - last.since >= self.settings.short_run_seconds
        return eager or self.slots.count(S.READY) * 2 < self.settings.size or self.sharing.somebody_is_shut_out()

    def _create(self, now: float) -> Create:
        self._serial += 1
        canary = self._needs_canary()
        begins = self._begins(now)
        slot = Slot(name=f"s{self._serial}", generation=self.generation, canary=canary, since=begins)
        self.slots.add(slot)
        return Create(slot.name, canary, begins)

    def _begins(self, now: float) -> float:
        if self.hold:
            return max(now, self.hold.until)
        return now if len(self.waiting) else now + self.settings.answer_first_seconds

    # --- changes ---

    def _saw(self, slot: Slot, event: Event, now: float, reason: Retirement) -> list[Action]:
        if event is E.CONDEMN:
            return self._condemn(slot, reason, now)
        if event in (E.STARTED, E.PROVED) and slot.state is S.STARTING:
            return self._started(slot, event, now)
        if event is E.ALIVE and now - slot.born > self.settings.idle_seconds:
            return self._condemn(slot, Retirement.AGE, now)
        if event is E.ALIVE and self.slots.count(S.READY) >= self.settings.size:
            return self._condemn(slot, Retirement.SURPLUS, now)
        self.slots.move(slot, event, now)
        return []

    def _started(self, slot: Slot, event: Event, now: float) -> list[Action]:
        if slot.canary is not (event is E.PROVED):
            raise IllegalTransition(f"{event} of {slot.name}, canary: {slot.canary}")
        self._start_seconds = policy.smoothed(self._start_seconds, now - slot.since)
        self.hold, self._failures = None, 0
        # Slow start: twice as many at once after each that came well, one after each failure.
        self._at_once = min(self._at_once * 2, self.settings.startup_concurrency)
        if slot.canary or self.settings.canary_each or self.settings.proved_elsewhere:
            self.proved = max(slot.generation, self.proved or slot.generation)
        if slot.canary:
            return self._condemn(slot, Retirement.CANARY, now)
        if slot.generation != self.generation:
            return self._condemn(slot, Retirement.GENERATION, now)
        self.slots.move(slot, event, now)
        slot.born = now
        return []

    def _release(self, slot: Slot, now: float, doubt: Retirement | None) -> list[Action]:
        self._lease_seconds = policy.smoothed(self._lease_seconds, now - slot.since)
        is_current = slot.generation == self.generation
        max_runs = self.settings.max_runs_per_sandbox
        doubt = doubt or (Retirement.CLOSING if self.closed else None)
        if now - slot.born > self.settings.reuse_seconds and slot.runs < max_runs:
            doubt = doubt or Retirement.AGE
        if reason := policy.verdict(doubt=doubt, runs=slot.runs, max_runs=max_runs, is_current=is_current):
            return self._condemn(slot, reason, now)
        self.slots.move(slot, E.RELEASE, now)
        return [Recycle(slot.name)]

    def _condemn(self, slot: Slot, reason: Retirement, now: float) -> list[Action]:
        if slot.state is S.RETIRING:
            return []  # its Delete is out already
        self.slots.move(slot, E.CONDEMN, now)
        return [Delete(slot.name, reason)]
