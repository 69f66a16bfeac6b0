"""The pool's records of its sandboxes, kept by name and by state. Pure."""

from __future__ import annotations

import msgspec

from pool.states import Event, State, after
from pool.waiting import WaiterId


class Slot(msgspec.Struct, kw_only=True):
    """The record of one sandbox."""

    name: str
    generation: int
    canary: bool
    since: float
    """When it came into its state. While STARTING: when the attempt begins, which may be in a back-off's future."""
    born: float = 0.0
    """When it became READY for the first time."""
    state: State = State.STARTING
    holder: WaiterId | None = None
    runs: int = 0
    """How many leases it has had."""


class Slots:
    """Counting and picking by state cost O(1): with hundreds of leases a walk for each event would show."""

    __slots__ = ("_by_name", "_by_state", "last_warm")

    def __init__(self) -> None:
        self._by_name: dict[str, Slot] = {}
        self._by_state: dict[State, dict[str, Slot]] = {state: {} for state in State}
        self.last_warm: float | None = None
        """When a slot last became, or ceased to be, READY."""

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Slot | None:
        return self._by_name.get(name)

    def every(self, *states: State) -> list[Slot]:
        """All in these states, or all there are; oldest in its state first."""
        return [slot for state in states or State for slot in self._by_state[state].values()]

    def count(self, *states: State) -> int:
        return sum(len(self._by_state[state]) for state in states)

    def first(self, state: State) -> Slot:
        return next(iter(self._by_state[state].values()))

    def last(self, state: State) -> Slot | None:
        """The one that came into this state last."""
        return next(reversed(self._by_state[state].values()), None)

    def held_by(self, waiter: WaiterId) -> Slot | None:
        return next((slot for slot in self._by_state[State.LEASED].values() if slot.holder == waiter), None)

    def add(self, slot: Slot) -> None:
        self._by_name[slot.name] = self._by_state[slot.state][slot.name] = slot

    def move(self, slot: Slot, event: Event, now: float) -> None:
        """Apply an event: the only place where a state changes, and where a holder is lost with it (I1)."""
        state = after(slot.state, event)
        if State.READY in (slot.state, state):
            self.last_warm = now
        if state is not slot.state:
            del self._by_state[slot.state][slot.name]
            slot.state, slot.since = state, now
            self._by_state[state][slot.name] = slot
        if state is not State.LEASED:
            slot.holder = None
        if state is State.GONE:
            del self._by_name[slot.name], self._by_state[state][slot.name]
