"""What one tenant may take at once, in a minute and in all. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.errors import NoSessions, SessionsFull

Count = Annotated[int, Meta(ge=1)]
CountOrNone = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """None is no limit of its own: those of the service hold."""

    concurrency: Count | None = None
    """Runs at once; one more waits in the queue."""
    runs_per_minute: Rate | None = None
    queue: CountOrNone | None = None
    """Requests that may wait; one more is answered 429."""
    file_quota_mb: Count | None = None
    sessions: CountOrNone | None = None
    all_metrics: bool = False
    """`/metrics` shows it every tenant's series, not its own alone: for who operates the service."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """As in a key file: what is not there is the default, `null` is no limit."""

    concurrency: Count | UnsetType | None = UNSET
    runs_per_minute: Rate | UnsetType | None = UNSET
    queue: CountOrNone | UnsetType | None = UNSET
    file_quota_mb: Count | UnsetType | None = UNSET
    sessions: CountOrNone | UnsetType | None = UNSET
    all_metrics: bool | UnsetType = UNSET

    @property
    def given(self) -> dict[str, float | None]:
        named = {name: getattr(self, name) for name in Limits.__struct_fields__}
        return {name: value for name, value in named.items() if value is not UNSET}

    def over(self, defaults: Limits) -> Limits:
        return msgspec.structs.replace(defaults, **self.given)


def check_sessions(limits: Limits, *, open_now: int, first_ends_in_seconds: float) -> None:
    """For whoever makes a session, of a tenant that has so many. Raises `SessionsFull`, or `NoSessions`."""
    if limits.sessions == 0:
        raise NoSessions("This tenant may open no sessions: its limit is 0.")
    if limits.sessions is not None and open_now >= limits.sessions:
        text = f"This tenant has {open_now} sessions, limit {limits.sessions}; the first ends in at most "
        raise SessionsFull(
            f"{text}{first_ends_in_seconds:.0f} s. Delete one that is not used.",
            retry_after_seconds=first_ends_in_seconds,
        )
