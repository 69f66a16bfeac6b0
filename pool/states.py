"""What a slot may be, and how it may change.

Rule 1: every legal change is a row of `TRANSITIONS`; nothing else assigns a slot's state.
Rule 2: an illegal event raises and changes nothing.
Rule 3: out of LEASED there are two ways: RETIRING, or RECYCLING and then CLEANED. No row leads from
        LEASED to READY, and none may be added (I6 in ledger.py).

    STARTING ──STARTED──▶ READY ◀──ALIVE── PROBING
        │                 │  └────PROBE──────▲
        │                 LEASE
        │                 ▼
        │               LEASED ──RELEASE──▶ RECYCLING ──CLEANED──▶ READY
        ▼                 ▼                     ▼
     RETIRING  ◀────── CONDEMN, from anywhere ──┘        then DELETED ──▶ GONE

A canary's way is STARTING ──PROVED──▶ RETIRING: it has shown that its generation works, and is used up.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    STARTING = "starting"
    READY = "ready"
    PROBING = "probing"
    """Idle, and being asked for a sign of life: not to be leased until it has answered."""
    LEASED = "leased"
    RECYCLING = "recycling"
    RETIRING = "retiring"
    GONE = "gone"


class Event(enum.StrEnum):
    STARTED = "started"
    PROVED = "proved"
    FAILED = "failed"
    PROBE = "probe"
    ALIVE = "alive"
    LEASE = "lease"
    RELEASE = "release"
    CLEANED = "cleaned"
    CONDEMN = "condemn"
    DELETED = "deleted"


class Retirement(enum.StrEnum):
    """Why a sandbox was retired; a metric label."""

    USED = "used"
    UNUSED = "unused"
    """Leased, and given back without a run."""
    CANCELLED = "cancelled"
    """The caller left while its program ran."""
    LOST = "lost"
    MISBEHAVED = "misbehaved"
    PROBE_FAILED = "probe_failed"
    NOT_CLEAN = "not_clean"
    """A cleaning did not bring it back to what it was."""
    REACHED_OUT = "reached_out"
    """It could reach what must be out of reach."""
    START_FAILED = "start_failed"
    CANARY = "canary"
    GENERATION = "generation"
    AGE = "age"
    SURPLUS = "surplus"
    """A burst that is over had made more than are kept."""
    DISPLACED = "displaced"
    """Idle, and only one caller may use it: it made way for one that waits."""
    SHARED = "shared"
    """It is a session now that any replica serves."""
    CLOSING = "closing"


S, E = State, Event
END = {E.CONDEMN: S.RETIRING, E.DELETED: S.GONE}

# What is still said of a sandbox on its way out was said before anybody knew: heard, and of no effect.
LATE = dict.fromkeys((E.STARTED, E.PROVED, E.FAILED, E.ALIVE, E.CLEANED), S.RETIRING)

TRANSITIONS: dict[State, dict[Event, State]] = {
    S.STARTING: {E.STARTED: S.READY, E.PROVED: S.RETIRING, E.FAILED: S.RETIRING, **END},
    S.READY: {E.LEASE: S.LEASED, E.PROBE: S.PROBING, **END},
    S.PROBING: {E.ALIVE: S.READY, **END},
    S.LEASED: {E.RELEASE: S.RECYCLING, **END},
    S.RECYCLING: {E.CLEANED: S.READY, **END},
    S.RETIRING: {**LATE, **END},
    S.GONE: {},
}


class IllegalTransition(AssertionError):
    """A bug in the pool: an event came in a state that does not allow it."""


def after(state: State, event: Event) -> State:
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"{event} while {state}") from None
