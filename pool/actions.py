"""What the ledger asks for, as data. The pool carries it out. Pure."""

from __future__ import annotations

import msgspec

from pool.states import Retirement
from pool.waiting import WaiterId


class Create(msgspec.Struct, frozen=True):
    """Start a sandbox, not before the time given. A canary is to be proved instead of leased.

    Answered by exactly one of STARTED, PROVED, `failed` or DELETED; in the end always by DELETED.
    """

    slot: str
    canary: bool
    not_before: float


class Grant(msgspec.Struct, frozen=True):
    """The slot is the waiter's until it leaves. Answered by exactly one `leave`."""

    slot: str
    waiter: WaiterId


class Recycle(msgspec.Struct, frozen=True):
    """Clean it and prove it clean; then `saw(CLEANED)`."""

    slot: str


class Delete(msgspec.Struct, frozen=True):
    """End the sandbox, or its start if it is still being made; then `saw(DELETED)`."""

    slot: str
    reason: Retirement


class Dismiss(msgspec.Struct, frozen=True):
    """Tell a waiter that the pool has closed. Only `close` says it."""

    waiter: WaiterId


Action = Create | Grant | Recycle | Delete | Dismiss


class Refusal(msgspec.Struct, frozen=True):
    """The answer to a `want` that is not even queued."""

    text: str
    retry_after_seconds: float
    queue_is_full: bool
    """Else it could not be reached in time."""
