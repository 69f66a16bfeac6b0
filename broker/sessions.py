"""Sessions: sandboxes that clients hold for a while, each a lease of a pool that is theirs alone.

open() ──lease──▶ open, until: close() · its time is over · its sandbox is lost · the service ends
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.abc import TaskGroup

from broker.errors import SessionMissing, SessionsFull
from broker.limits import check_sessions
from broker.tenants import Tenant
from pool import Caller, Outcome, PoolClosed, SandboxPool, Session, Sink, StagedFile, Turn

OPEN_SECONDS = 20.0
"""For a sandbox and all files of a new session, beside the wait for one: clients wait 30 s. Longer answers nobody."""


class Held(msgspec.Struct, eq=False):
    """One session, from the request for it to its end."""

    session_id: str
    tenant: str
    ttl_seconds: int
    expires_at: float = 0.0
    """On the wall clock, as clients are told it."""
    ends_at: float = 0.0
    session: Session | None = None
    error: Exception | None = None
    settled: anyio.Event = msgspec.field(default_factory=anyio.Event)
    """It is open, or will never be."""
    unwanted: anyio.Event = msgspec.field(default_factory=anyio.Event)
    scope: anyio.CancelScope = msgspec.field(default_factory=anyio.CancelScope)
    """Of its task, for an opener who leaves."""

    def begin(self) -> None:
        """Its time starts when it has a sandbox."""
        self.expires_at, self.ends_at = time.time() + self.ttl_seconds, anyio.current_time() + self.ttl_seconds


class Sessions:
    """All of this service's. `run` has to be running."""

    def __init__(self, pool: SandboxPool, *, most: int, loopback: bool) -> None:
        self._pool, self._most, self._loopback = pool, most, loopback
        self._held: dict[str, Held] = {}
        self._tasks: TaskGroup | None = None

    def __len__(self) -> int:
        return len(self._held)

    async def run(self) -> None:
        """Own their tasks; cancelled, it ends all sessions."""
        try:
            async with anyio.create_task_group() as self._tasks:
                await anyio.sleep_forever()
        finally:
            self._tasks = None

    async def open(
        self, tenant: Tenant, *, ttl_seconds: int, files: Sequence[StagedFile], lease_deadline: float
    ) -> Held:
        """Raises `SessionsFull`, and what a lease raises; then there is no session."""
        if self._tasks is None:
            raise PoolClosed("The service is starting, or shutting down.")
        self._check_room(tenant)
        held = Held(str(uuid.uuid4()), tenant.name, ttl_seconds)
        held.begin()
        self._held[held.session_id] = held
        # Not the tenant's limits of runs: what it may have of these was looked at.
        self._tasks.start_soon(self._hold, held, Caller(tenant.name), files, lease_deadline)
        try:
            await held.settled.wait()
        except BaseException:
            held.scope.cancel()
            raise
        if held.error is not None:
            raise held.error
        if held.session is None:
            raise PoolClosed("The service is shutting down.")
        return held

    async def shell(
        self, tenant: Tenant, session_id: str, command: str, *, timeout_ms: int, sink: Sink, deadline: float
    ) -> Outcome:
        """Raises `SessionMissing`, `SandboxLost`, `RemoteProtocolError`."""
        held = self._open(tenant, session_id)
        if held.session is None:
            raise SessionMissing(session_id)
        try:
            return await held.session.shell(command, timeout_ms=timeout_ms, sink=sink, deadline=deadline)
        finally:
            if held.session.is_lost:
                held.unwanted.set()

    @asynccontextmanager
    async def turn(self, tenant: Tenant, session_id: str, deadline: float) -> AsyncIterator[Turn]:
        """The right to run one program in it. Raises `SessionMissing`, and what `Session.turn` raises."""
        held = self._open(tenant, session_id)
        if held.session is None:
            raise SessionMissing(session_id)
        try:
            async with held.session.turn(deadline) as turn:
                yield turn
        finally:
            if held.session.is_lost:
                held.unwanted.set()

    async def close(self, tenant: Tenant, session_id: str) -> None:
        """End it, and all that runs in it. Raises `SessionMissing`."""
        self._held.pop(self._open(tenant, session_id).session_id).unwanted.set()

    def _open(self, tenant: Tenant, session_id: str) -> Held:
        held = self._held.get(session_id)
        # SECURITY: whoever learns of another tenant's id is told no more than of one that never was
        # (tests/integration/test_session_tenants.py).
        if held is None or held.tenant != tenant.name or held.session is None or held.unwanted.is_set():
            raise SessionMissing(session_id)
        return held

    def _check_room(self, tenant: Tenant) -> None:
        """Raises `SessionsFull`."""
        theirs = [held for held in self._held.values() if held.tenant == tenant.name]
        check_sessions(tenant.limits, open_now=len(theirs), first_ends_in_seconds=_first_end_seconds(theirs))
        if len(self._held) >= self._most:
            text = f"{len(self._held)} sessions are open, limit {self._most}."
            raise SessionsFull(text, retry_after_seconds=_first_end_seconds(self._held.values()))

    async def _hold(self, held: Held, caller: Caller, files: Sequence[StagedFile], lease_deadline: float) -> None:
        """From the lease to its end, in one task."""
        try:
            with held.scope:
                await self._lead(held, caller, files, lease_deadline)
        except Exception as error:  # whoever waits for it raises it; there is nobody else to tell
            held.error = error
        finally:
            self._held.pop(held.session_id, None)
            held.settled.set()

    async def _lead(self, held: Held, caller: Caller, files: Sequence[StagedFile], lease_deadline: float) -> None:
        async with self._pool.lease(deadline=lease_deadline, caller=caller) as lease:
            held.unwanted = lease.over  # its client ends it, or its sandbox does
            held.begin()
            held.session = await lease.open_session(
                ttl_seconds=held.ends_at - anyio.current_time(),
                files=files,
                deadline=anyio.current_time() + OPEN_SECONDS,
                loopback=self._loopback,
            )
            held.settled.set()
            with anyio.move_on_after(held.ends_at - anyio.current_time()):
                await held.unwanted.wait()


def _first_end_seconds(sessions: Iterable[Held]) -> float:
    now = anyio.current_time()
    return max(1.0, math.ceil(min((held.ends_at for held in sessions), default=now) - now))
