"""Every slot and every waiter, and the decisions about them. Pure: no I/O, no clock, no chance, no tasks.

Each method takes what happened and when, changes the books, and returns the work to do. The caller
does the work. Nothing here awaits, so nothing here can be cancelled half-way.

I1  A slot is LEASED if and only if it has a holder.
I2  One holder, one slot.
I3  Nobody waits while a slot is READY that this waiter may use (while fewer than `max_in_flight` are leased).
I4  Slots that exist, or are being made or unmade, never exceed `limit`.
I5  A waiter that left holds nothing.
I6  LEASED becomes READY only through CLEANED.
I7  Every Grant is answered by exactly one `leave`; every Create by STARTED or DELETED.
I8  After close nothing is left: no waiter, no slot.

Record, then act: a slot is STARTING from the moment its Create is returned. Counting only what a
watch has shown would create again and again while it lags (kubernetes-sigs/agent-sandbox#1215).
"""

from __future__ import annotations

from collections.abc import Sequence

from pool import policy
from pool.actions import Action, Create, Delete, Dismiss, Grant, Recycle, Refusal
from pool.settings import PoolSettings
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
        self.hold: policy.Hold | None = None
        self._start_seconds: float | None = None
        self._lease_seconds: float | None = None
        self._failures = 0
        self._at_once = 1
        self._serial = 0

    # --- what happened ---

    def want(self, waiter: WaiterId, *, caller: str, deadline: float, now: float) -> list[Action] | Refusal:
        """Someone wants a sandbox: granted, queued, or refused at once."""
        if not self._is_free() and (refusal := self._refusal(caller, deadline, now)):
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
        return [*self._grants(now), *self._roll(now), *self._creates(now)]

    # --- how long it takes ---

    def expected_wait_seconds(self, caller: str, now: float) -> float:
        """How long one more of this caller would wait, from what has been measured; 0 while nothing has been."""
        return self._wait_seconds(caller, now, [now - slot.since for slot in self.slots.every(S.LEASED)])

    def _least_wait_seconds(self, caller: str, now: float) -> float:
        """The same, as if every lease had just begun: that old ones go on is a guess, and nobody is refused on one."""
        return self._wait_seconds(caller, now, [0.0] * self.slots.count(S.LEASED))

    def _wait_seconds(self, caller: str, now: float, ages: Sequence[float]) -> float:
        ahead = self.waiting.ahead_of(caller)
        if self._may_lease_more() and self.slots.count(S.RECYCLING, S.PROBING) > ahead:
            return 0.0  # back in a moment, as a rule: nobody is refused for want of them
        started = policy.start_wait_seconds(
            ahead,
            now=now,
            starting_since=sorted(slot.since for slot in self.slots.every(S.STARTING)),
            start_seconds=self._start_seconds or 0.0,
            at_once=self.settings.startup_concurrency,
        )
        if self._may_lease_more():
            return started
        return max(started, policy.release_wait_seconds(ahead, lease_seconds=self._lease_seconds or 0.0, ages=ages))

    def retry_after_seconds(self, caller: str, now: float) -> float:
        return policy.retry_after_seconds(self.expected_wait_seconds(caller, now))

    def _refusal(self, caller: str, deadline: float, now: float) -> Refusal | None:
        waiting, wait = len(self.waiting), self.expected_wait_seconds(caller, now)
        numbers = f"{waiting} waiting, limit {self.settings.queue}; expected wait {wait:.2f} s"
        retry_after_seconds = self.retry_after_seconds(caller, now)
        if waiting >= self.settings.queue:
            return Refusal(f"the queue is full: {numbers}", retry_after_seconds, queue_is_full=True)
        if now + self._least_wait_seconds(caller, now) > deadline:
            why = f"; sandboxes cannot be started ({self.hold.reason})" if self.hold else ""
            text = f"no sandbox before the deadline in {max(0.0, deadline - now):.2f} s: {numbers}{why}"
            return Refusal(text, retry_after_seconds, queue_is_full=False)
        return None

    # --- decisions ---

    def _may_lease_more(self) -> bool:
        return self.slots.count(S.LEASED) < self.settings.max_in_flight

    def _is_free(self) -> bool:
        """One more would be served at once. Nobody waits then (I3), so nobody is overtaken."""
        return bool(self.slots.count(S.READY)) and self._may_lease_more() and not self.closed

    def _grants(self, now: float) -> list[Action]:
        granted: list[Action] = []
        while self._is_free() and len(self.waiting):
            slot, waiter = self.slots.first(S.READY), self.waiting.next()
            self.slots.move(slot, E.LEASE, now)
            slot.holder = waiter
            slot.runs += 1
            granted.append(Grant(slot.name, waiter))
        return granted

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
        missing = max(self.settings.size - stock, self._unserved() if starts_for_waiters else 0)
        return max(0, min(room, missing, self._at_once - starting))

    def _needs_canary(self) -> bool:
        proved = self.proved == self.generation or self.settings.proved_elsewhere
        return not proved and not self.settings.canary_each

    def _unserved(self) -> int:
        """Those that wait for more than what is on its way already."""
        return len(self.waiting) - self.slots.count(S.STARTING, S.RECYCLING, S.PROBING)

    def _returning(self) -> int:
        """Those that come back after their lease, as a rule: for them no others need be made while nobody waits."""
        most = self.settings.max_runs_per_sandbox
        return sum(slot.runs < most for slot in self.slots.every(S.LEASED)) if self.settings.reuses else 0

    def _may_refill(self, now: float) -> bool:
        """Starting a sandbox takes CPU from the programs that run: where CPU is shared it waits for the short ones."""
        last = self.slots.last(S.LEASED)
        eager = self.settings.refill_eagerly or last is None or now - last.since >= self.settings.short_run_seconds
        return eager or self.slots.count(S.READY) * 2 < self.settings.size

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
