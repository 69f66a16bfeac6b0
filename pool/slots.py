"""The pool's records of its sandboxes, kept by name and by state. Pure."""

from __future__ import annotations

from collections.abc import Iterable

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
    caller: str | None = None
    """Whose it is or was, from its first lease on."""
    runs: int = 0
    """How many leases it has had."""


class Slots:
    """Counting and picking by state cost O(1): with hundreds of leases a walk for each event would show."""

    __slots__ = ("_by_caller", "_by_name", "_by_state", "last_warm")

    def __init__(self) -> None:
        self._by_name: dict[str, Slot] = {}
        self._by_state: dict[State, dict[str, Slot]] = {state: {} for state in State}
        self._by_caller: dict[tuple[State, str | None], dict[str, Slot]] = {}
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

    def first_of(self, caller: str | None, state: State) -> Slot | None:
        """The oldest in this state that is this caller's; of None, one that has been nobody's."""
        return next(iter(self.every_of(caller, state)), None)

    def every_of(self, caller: str | None, state: State) -> Iterable[Slot]:
        return self._by_caller.get((state, caller), {}).values()

    def count_of(self, caller: str | None, *states: State) -> int:
        return sum(len(self._by_caller.get((state, caller), ())) for state in states)

    def last(self, state: State) -> Slot | None:
        """The one that came into this state last."""
        return next(reversed(self._by_state[state].values()), None)

    def held_by(self, waiter: WaiterId) -> Slot | None:
        return next((slot for slot in self._by_state[State.LEASED].values() if slot.holder == waiter), None)

    def add(self, slot: Slot) -> None:
        self._by_name[slot.name] = slot
        self._put(slot)

    def move(self, slot: Slot, event: Event, now: float, *, caller: str | None = None) -> None:
        """Apply an event: the only place where a state changes, and where a holder is lost with it (I1).

        `caller` is whose it becomes.
        """
        state = after(slot.state, event)
        if State.READY in (slot.state, state):
            self.last_warm = now
        if state is not slot.state:
            self._take(slot)
            slot.state, slot.since = state, now
            slot.caller = slot.caller if caller is None else caller
            self._put(slot)
        if state is not State.LEASED:
            slot.holder = None
        if state is State.GONE:
            self._take(slot)
            del self._by_name[slot.name]

    def _put(self, slot: Slot) -> None:
        self._by_state[slot.state][slot.name] = slot
        self._by_caller.setdefault((slot.state, slot.caller), {})[slot.name] = slot

    def _take(self, slot: Slot) -> None:
        del self._by_state[slot.state][slot.name]
        theirs = self._by_caller[slot.state, slot.caller]
        del theirs[slot.name]
        if not theirs:
            # Callers come and go; what is kept of each must not.
            del self._by_caller[slot.state, slot.caller]
