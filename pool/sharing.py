"""Which sandboxes a caller may use, and what is on its way to whom. Pure.

Where callers do not trust each other (`reuse_within_caller`), a slot that one has held is that caller's until it
ends; one that nobody has held is anybody's. Else every slot is anybody's.
"""

from __future__ import annotations

from pool.caller import Caller
from pool.settings import PoolSettings
from pool.slots import Slot, Slots
from pool.states import State
from pool.waiting import Waiting

S = State


class Sharing:
    """Reads the books, changes nothing."""

    def __init__(self, settings: PoolSettings, slots: Slots, waiting: Waiting) -> None:
        self.is_within_caller = settings.reuse_within_caller and settings.reuses
        self._settings = settings
        self._slots = slots
        self._waiting = waiting

    def has_room(self, caller: Caller) -> bool:
        """It may lease one more by its own limit."""
        most = caller.max_in_flight
        return most is None or self._slots.count_of(caller.name, S.LEASED) < most

    def ready_for(self, caller: Caller) -> Slot | None:
        """One that the caller may use; its own first, as nobody else can use those."""
        # SECURITY: what a program left behind, if a proof of cleanliness ever fails to see it, no other tenant's
        # program may find (tests/unit/test_ledger_tenants.py).
        if self.is_within_caller:
            return self._slots.first_of(caller.name, S.READY) or self._slots.first_of(None, S.READY)
        return self._slots.first(S.READY) if self._slots.count(S.READY) else None

    def coming_back(self, caller: str) -> int:
        """Being cleaned or probed, and of use to this caller."""
        if not self.is_within_caller:
            return self._slots.count(S.RECYCLING, S.PROBING)
        return self._slots.count_of(caller, S.RECYCLING, S.PROBING) + self._slots.count_of(None, S.PROBING)

    def ahead_of(self, caller: Caller) -> int:
        """How many are served before one more of this caller would be. Whom their own limit blocks are passed by."""
        return self._waiting.ahead_of(caller.name, self._may_have)

    def unserved(self) -> int:
        """Those that wait for more than what is on its way already, and might be leased one more."""
        if not self.is_within_caller:
            coming = self._slots.count(S.STARTING, S.RECYCLING, S.PROBING)
            return min(self._room(), sum(map(self._may_have, self._waiting.callers()))) - coming
        anybodys = self._slots.count(S.STARTING) + self._slots.count_of(None, S.READY, S.PROBING)
        shut_out = sum(max(0, self._may_have(each) - self._has(each)) for each in self._waiting.callers())
        # One ahead even where there is no room: else the sandbox that comes free is its own caller's again.
        return min(max(1, self._room()), shut_out) - anybodys

    def somebody_is_shut_out(self) -> bool:
        """A caller waits, and every sandbox that is idle, or soon will be, is another's."""
        if not self.is_within_caller or self._slots.count_of(None, S.READY, S.PROBING):
            return False
        return any(self.has_room(each) and not self._has(each) for each in self._waiting.callers())

    def _room(self) -> int:
        """How many more may be leased now. Made for others, sandboxes would come, be of no use, and go again."""
        return self._settings.max_in_flight - self._slots.count(S.LEASED)

    def _may_have(self, caller: Caller) -> int:
        """Of those that wait, how many its own limit lets have a sandbox."""
        waiting, most = self._waiting.count(caller.name), caller.max_in_flight
        return waiting if most is None else min(waiting, max(0, most - self._slots.count_of(caller.name, S.LEASED)))

    def _has(self, caller: Caller) -> int:
        """Idle, or soon to be, and this caller's own."""
        return self._slots.count_of(caller.name, S.READY, S.RECYCLING, S.PROBING)

    def owned_and_idle(self) -> list[Slot]:
        """READY, and of use to one caller only; idle for the longest time first."""
        return [slot for slot in self._slots.every(S.READY) if slot.caller is not None]
