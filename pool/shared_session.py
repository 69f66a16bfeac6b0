"""Sessions that live in their sandboxes alone: any service of the kind that sees the sandbox serves them. Pure.

made here ──share──▶ nobody's lease ──find, channel──▶ calls, of any replica ──▶ its time, or `end`
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

import msgspec

from pool.settings import RunLimits

if TYPE_CHECKING:
    from pool.session import Session


class SharedSession(msgspec.Struct, frozen=True, kw_only=True):
    """All that another replica has to know of one."""

    session_id: str
    tenant: str
    expires_at: float
    """On the wall clock, in seconds: clocks of replicas may differ, and so do their opinions of it."""
    protocol: int
    """As its supervisor speaks it: a replica of a later release is not its maker."""
    limits: RunLimits
    """Of its calls, as they were when it was made."""


class SharedSessions(Protocol):
    """Those of all replicas, as this one sees them: what another has done shows a moment later."""

    def every(self) -> Collection[SharedSession]:
        """Those that are open."""

    async def find(self, tenant: str, session_id: str) -> SharedSession | None:
        """This tenant's, waiting a moment for one that was just made. Raises `PoolTimeout` where it cannot be known."""

    def channel(self, session: SharedSession, *, deadline: float) -> AbstractAsyncContextManager[Session]:
        """This replica's own channel to it, opened if need be by the deadline, for one call. Raises `PoolTimeout`, and
        nothing has run; `SessionGone`."""

    async def end(self, session: SharedSession) -> None:
        """End it, and all that runs in it. Raises `PoolTimeout` when it could not be ended now, `SessionGone`."""
