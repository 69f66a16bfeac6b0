"""One tenant floods; what another waits, simulated on the ledger in virtual time, beside plain FIFO."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import msgspec
import pytest

from pool.actions import Action, Create, Delete, Grant, Recycle, Refusal
from pool.caller import Caller
from pool.ledger import Ledger
from pool.settings import PoolSettings
from pool.states import Event
from pool.waiting import WaiterId

START_SECONDS, CLEAN_SECONDS, END_SECONDS = 0.2, 0.005, 0.05
SHORTEST_RUN_SECONDS, LONGEST_RUN_SECONDS = 0.25, 0.75
"""All of one length would end together, for ever, and free sandboxes in bursts that no pool has."""
SECONDS = 120.0
CROWD = 400
"""Requests of the flood that are there at any time."""
EVERY_SECONDS = 0.37
"""The other tenant asks this often: far less than its half of what the pool can do."""


class Simulation:
    """A ledger, and a world that does what it orders; `told_apart` is what callers are to the queue."""

    def __init__(self, settings: PoolSettings, told_apart: Callable[[str], Caller]) -> None:
        self.ledger = Ledger(settings, generation=1)
        self.told_apart = told_apart
        self.now = 0.0
        self._chance = random.Random(1)
        self.waits: dict[str, list[float]] = {"flood": [], "guest": []}
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._wanted: dict[WaiterId, tuple[str, float]] = {}

    def at(self, moment: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), act))

    def run(self, until: float) -> None:
        self.carry_out(self.ledger.settle(0.0))
        while self._due and self._due[0][0] <= until:
            self.now, _, act = heapq.heappop(self._due)
            act()

    def ask(self, who: str) -> None:
        waiter = WaiterId(next(self._order))
        self._wanted[waiter] = who, self.now
        answer = self.ledger.want(waiter, caller=self.told_apart(who), deadline=1e9, now=self.now)
        assert not isinstance(answer, Refusal), answer.text
        self.carry_out(answer)

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Create():
                    event = Event.PROVED if action.canary else Event.STARTED
                    self._later(START_SECONDS, action.slot, event)
                case Grant():
                    self._granted(action.waiter)
                case Recycle():
                    self._later(CLEAN_SECONDS, action.slot, Event.CLEANED)
                case Delete():
                    self._later(END_SECONDS, action.slot, Event.DELETED)

    def _later(self, seconds: float, slot: str, event: Event) -> None:
        self.at(self.now + seconds, lambda: self.carry_out(self.ledger.saw(slot, event, now=self.now)))

    def _granted(self, waiter: WaiterId) -> None:
        who, since = self._wanted[waiter]
        self.waits[who].append(self.now - since)
        run_seconds = self._chance.uniform(SHORTEST_RUN_SECONDS, LONGEST_RUN_SECONDS)
        self.at(self.now + run_seconds, lambda: self._ended(waiter, who))

    def _ended(self, waiter: WaiterId, who: str) -> None:
        self.carry_out(self.ledger.leave(waiter, now=self.now))
        if who == "flood":
            self.ask(who)  # as many as before


def simulated(settings: PoolSettings, told_apart: Callable[[str], Caller], *, crowd: int) -> Simulation:
    world = Simulation(settings, told_apart)
    for _ in range(crowd):
        world.at(5.0, lambda: world.ask("flood"))
    for number in range(int(SECONDS / EVERY_SECONDS)):
        world.at(10.0 + number * EVERY_SECONDS, lambda: world.ask("guest"))
    world.run(10.0 + 3 * SECONDS)
    return world


def p95(waits: list[float]) -> float:
    return sorted(waits)[int(len(waits) * 0.95)]


SETTINGS = PoolSettings(size=4, max_in_flight=4, surge=8, queue=1000, startup_concurrency=4)
REUSED = msgspec.structs.replace(SETTINGS, max_runs_per_sandbox=20, canary_each=True)
WITHIN_A_TENANT = msgspec.structs.replace(REUSED, reuse_within_caller=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [SETTINGS, REUSED, WITHIN_A_TENANT], ids=["used once", "reused by any", "reused within a tenant"]
)
def test_under_a_flood_another_tenant_waits_three_intervals_more_at_most_and_a_twentieth_of_fifo(settings):
    alone = simulated(settings, Caller, crowd=0)
    fair = simulated(settings, Caller, crowd=CROWD)
    fifo = simulated(settings, lambda _: Caller(), crowd=CROWD)
    interval_seconds = fair.now / sum(map(len, fair.waits.values()))
    """A sandbox interval: from one grant to the next, in the mean."""
    guest, baseline, plain = (p95(each.waits["guest"]) for each in (fair, alone, fifo))
    assert len(fair.waits["guest"]) == int(SECONDS / EVERY_SECONDS), "all of the guest's were served"
    assert guest <= baseline + 3 * interval_seconds
    assert guest <= 0.05 * plain
