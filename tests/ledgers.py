"""Ledgers for tests that look at one decision at a time."""

from __future__ import annotations

import msgspec

from pool.actions import Action, Refusal
from pool.caller import Caller
from pool.ledger import Ledger
from pool.settings import PoolSettings
from pool.states import Event, State
from pool.waiting import WaiterId

W1, W2, W3, W4 = map(WaiterId, range(1, 5))
SETTINGS = PoolSettings(size=2, max_in_flight=3, surge=2, queue=2)


def ledger_with(**changed: object) -> Ledger:
    return Ledger(msgspec.structs.replace(SETTINGS, **changed), generation=1)


def warm(ledger: Ledger, *, now: float = 0.0, start_seconds: float = 1.0) -> float:
    """Let everything start, one after another; returns the time when nothing is missing any more."""
    ledger.settle(now)
    while starting := ledger.slots.every(State.STARTING):
        now += start_seconds
        event = Event.PROVED if starting[0].canary else Event.STARTED
        ledger.saw(starting[0].name, event, now=now)
    return now


def names(ledger: Ledger, *states: State) -> list[str]:
    return [slot.name for slot in ledger.slots.every(*states)]


def want(
    ledger: Ledger, waiter: WaiterId, now: float, *, patience: float = 100.0, caller: str = "", **limits: int
) -> list[Action]:
    answer = ledger.want(waiter, caller=Caller(caller, **limits), deadline=now + patience, now=now)
    assert not isinstance(answer, Refusal), answer
    return answer


def refused(
    ledger: Ledger, waiter: WaiterId, now: float, *, patience: float = 100.0, caller: str = "", **limits: int
) -> Refusal:
    answer = ledger.want(waiter, caller=Caller(caller, **limits), deadline=now + patience, now=now)
    assert isinstance(answer, Refusal)
    return answer
