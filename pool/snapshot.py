"""The pool at one moment, for `/health` and metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pool.caller import ANYBODY
from pool.ledger import Ledger
from pool.states import State


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    slots: Mapping[str, int]
    """How many are in each state; every state but `gone` is there."""
    size: int
    limit: int
    waiting: int
    queue: int
    """How many may wait."""
    in_flight: int
    max_in_flight: int
    hold_reason: str | None
    """A word while sandboxes cannot be started, else None; `hold_text` says it in a sentence."""
    hold_text: str | None
    has_been_warm: bool
    """A sandbox has been ready at least once."""
    cold_seconds: float
    """For how long no sandbox has been ready; 0 while one is. Counts from the pool's start at first."""
    retry_after_seconds: float
    """What a newcomer who is sent away would be told."""
    generation: int
    runs: int
    """Programs that came to an outcome."""
    closing: bool


def of_ledger(ledger: Ledger, *, runs: int, opened_at: float, now: float) -> Snapshot:
    warm_at = now if ledger.slots.count(State.READY) else ledger.slots.last_warm
    return Snapshot(
        slots={state.value: ledger.slots.count(state) for state in State if state is not State.GONE},
        size=ledger.settings.size,
        limit=ledger.settings.limit,
        waiting=len(ledger.waiting),
        queue=ledger.settings.queue,
        in_flight=ledger.slots.count(State.LEASED),
        max_in_flight=ledger.settings.max_in_flight,
        hold_reason=ledger.hold.reason if ledger.hold else None,
        hold_text=ledger.hold.text if ledger.hold else None,
        has_been_warm=warm_at is not None,
        cold_seconds=now - (opened_at if warm_at is None else warm_at),
        retry_after_seconds=ledger.retry_after_seconds(ANYBODY, now),
        generation=ledger.generation,
        runs=runs,
        closing=ledger.closed,
    )
