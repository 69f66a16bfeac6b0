"""The ledger under anything that can happen; and the machine that says so under planted bugs."""

from __future__ import annotations

import traceback

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pool.actions import Action, Create, Delete
from pool.caller import Caller
from pool.ledger import Ledger
from pool.settings import PoolSettings
from pool.slots import Slot
from pool.states import Event, Retirement, State
from pool.waiting import WaiterId
from tests.property.ledger_machine import LedgerMachine

LedgerMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestLedger = pytest.mark.slow(LedgerMachine.TestCase)


class LosesItsGrants(Ledger):
    """Breaks I7: who leaves is taken from the queue, and what it held is forgotten (httpcore#1093)."""

    def leave(self, waiter: WaiterId, *, now: float, doubt: Retirement | None = None) -> list[Action]:
        return self.settle(now) if self.waiting.remove(waiter) else []


class LeasesWhatIsDirty(Ledger):
    """Breaks I6: taken for clean when cleaning was ordered."""

    def _release(self, slot: Slot, now: float, doubt: Retirement | None) -> list[Action]:
        actions = super()._release(slot, now, doubt)
        if slot.state is State.RECYCLING:
            self.slots.move(slot, Event.CLEANED, now)
        return actions


class MakesOneTooMany(Ledger):
    """Breaks I4, where there is no room any more."""

    def _shortfall(self, now: float) -> int:
        return super()._shortfall(now) or int(not self.slots.count(State.STARTING))


class ForgetsToSettle(Ledger):
    """Breaks I3: gives back, and looks no further."""

    def leave(self, waiter: WaiterId, *, now: float, doubt: Retirement | None = None) -> list[Action]:
        slot = self.slots.held_by(waiter)
        return self._release(slot, now, doubt) if slot else super().leave(waiter, now=now, doubt=doubt)


class GrantsToGhosts(Ledger):
    """Breaks I5: who gave up waiting stays in the queue."""

    def leave(self, waiter: WaiterId, *, now: float, doubt: Retirement | None = None) -> list[Action]:
        return [] if waiter in self.waiting else super().leave(waiter, now=now, doubt=doubt)


class DeletesTwice(Ledger):
    """Breaks I7: what is condemned twice is deleted twice."""

    def _condemn(self, slot: Slot, reason: Retirement, now: float) -> list[Action]:
        self.slots.move(slot, Event.CONDEMN, now)
        return [Delete(slot.name, reason)]


class LeavesTheStartingBehind(Ledger):
    """Breaks I8: a start that is under way when the pool closes is not ended."""

    def close(self, *, now: float, cut: bool = False) -> list[Action]:
        actions = super().close(now=now, cut=cut)
        starting = {slot.name for slot in self.slots.every() if slot.born == 0.0}
        return [each for each in actions if not (isinstance(each, Delete) and each.slot in starting)]


class LeasesWithoutBound(Ledger):
    """Breaks the bound on what is in flight, and I2 with it."""

    def _may_lease_more(self) -> bool:
        return True


class KeepsTheHolder(Ledger):
    """Breaks I1: a slot that is recycled still has its holder."""

    def _release(self, slot: Slot, now: float, doubt: Retirement | None) -> list[Action]:
        holder = slot.holder
        actions = super()._release(slot, now, doubt)
        slot.holder = holder
        return actions


class ChurnsThroughAHold(Ledger):
    """Breaks the back-off: starts again at once."""

    def _create(self, now: float) -> Create:
        return msgspec.structs.replace(super()._create(now), not_before=now)


class LeasesAcrossCallers(Ledger):
    """Breaks I9: what is ready is anybody's."""

    def _slot_for(self, caller: Caller) -> Slot | None:
        ready = self.slots.every(State.READY)
        return ready[0] if ready and self.sharing.has_room(caller) else None


class ForgetsWhoseItWas(Ledger):
    """Breaks I9, one step later: a cleaned slot is taken for a new one."""

    def _saw(self, slot: Slot, event: Event, now: float, reason: Retirement) -> list[Action]:
        if event is Event.CLEANED and slot.state is State.RECYCLING:
            self.slots._take(slot)
            slot.caller = None
            self.slots._put(slot)
        return super()._saw(slot, event, now, reason)


class KeepsSandboxesForTheirOwners(Ledger):
    """Shuts a caller out: idle ones of another count as stock, and none is made or given up for who waits."""

    def _make_way(self, now: float) -> list[Action]:
        return []

    def _shortfall(self, now: float) -> int:
        return super()._shortfall(now) if self.slots.count(State.READY) < self.settings.size else 0


class ForgetsACallersLimit(Ledger):
    """Breaks a caller's own limit."""

    def _slot_for(self, caller: Caller) -> Slot | None:
        return self.sharing.ready_for(caller)


class StandsBehindTheBlocked(Ledger):
    """Tells others of waits that they do not have."""

    def __init__(self, settings: PoolSettings, *, generation: int) -> None:
        super().__init__(settings, generation=generation)
        self.sharing._may_have = lambda caller: self.waiting.count(caller.name)  # type: ignore[method-assign]  # the bug


PLANTED = [
    (StandsBehindTheBlocked, "behind who is blocked"),
    (LeasesAcrossCallers, "I9: another caller has held it"),
    (ForgetsWhoseItWas, "I9: another caller has held it"),
    (KeepsSandboxesForTheirOwners, "a caller is shut out"),
    (ForgetsACallersLimit, "above the caller's own limit"),
    (LosesItsGrants, "I7: a Grant is answered by one leave"),
    (LeasesWhatIsDirty, "I6: "),
    (MakesOneTooMany, "I4: within the limit"),
    (ForgetsToSettle, "unsettled"),
    (GrantsToGhosts, "I5: "),
    (DeletesTwice, "I7: deleted once"),
    (LeavesTheStartingBehind, "I8: not ended"),
    (LeasesWithoutBound, "in flight without bound"),
    (KeepsTheHolder, "I1"),
    (ChurnsThroughAHold, "no churn in a hold"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "verdict"), PLANTED, ids=[bug.__name__ for bug, _ in PLANTED])
def test_the_machine_finds_a_planted_bug(planted, verdict):
    # A machine that finds nothing in a broken ledger proves nothing about a sound one.
    class Machine(LedgerMachine):
        ledger_class = planted

    search = settings(
        max_examples=4000,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
    )
    with pytest.raises(AssertionError) as found:
        run_state_machine_as_test(Machine, settings=search)
    # The whole chain: the machine's teardown fails too, after the step that found it.
    assert verdict in "".join(traceback.format_exception(found.value))
