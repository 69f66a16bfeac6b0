"""Sessions: sandboxes that clients hold for a while, each a lease of a pool that is theirs alone.

open() ──lease──▶ open, until: close() · its time is over · its sandbox is lost · the service ends
           └──share──▶ all replicas': then its time, or close() on any of them; the lease is over

It is shared where the pool's backend has other services of its kind, and its sandbox can let them in.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio
import msgspec
from anyio.abc import TaskGroup

from broker.errors import NoSessions, SessionMissing, SessionsFull
from broker.limits import check_sessions
from broker.session_metrics import SessionMetrics
from broker.tenants import Tenant
from pool import (
    Caller,
    Outcome,
    PoolClosed,
    PoolTimeout,
    RemoteProtocolError,
    SandboxLost,
    SandboxPool,
    Session,
    SessionGone,
    SharedSession,
    SharedSessions,
    Sink,
    StagedFile,
    Turn,
)

OPEN_SECONDS = 20.0
"""For a sandbox and all files of a new session, beside the wait for one: clients wait 30 s. Longer answers nobody."""

PROBE_SECONDS = 30.0
"""Between two signs of life of one that only we have a channel to: proxies end streams on which nothing is said."""

PROBE_ANSWER_SECONDS = 15.0
"""For such a sign. Shorter ends sessions of busy machines; longer keeps those that nobody is behind."""


class Held(msgspec.Struct, eq=False):
    """One session, from the request for it to its end."""

    session_id: str
    tenant: str
    ttl_seconds: int
    expires_at: float = 0.0
    """On the wall clock, as clients are told it."""
    ends_at: float = 0.0
    session: Session | None = None
    is_shared: bool = False
    """No more ours than any other replica's."""
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

    def __init__(self, pool: SandboxPool, *, most: int, loopback: bool, metrics: SessionMetrics) -> None:
        self._pool, self._most, self._loopback, self._metrics = pool, most, loopback, metrics
        metrics.watch(self.tenants, most=most)
        self._held: dict[str, Held] = {}
        self._tasks: TaskGroup | None = None

    def __len__(self) -> int:
        """As many as we know of, on all replicas."""
        return len(self._every())

    @property
    def trouble(self) -> str | None:
        """Why the last ones could not be opened; None since one was."""
        why = self._pool.snapshot().hold_text
        return None if why is None else f"Sessions: {why}"

    def tenants(self) -> list[str]:
        """Of each of them."""
        return [each.tenant for each in self._every().values()]

    async def run(self) -> None:
        """Own their tasks; cancelled, it ends all sessions that are ours alone."""
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
            self._end_if_unheard_of(held)
            raise
        if held.error is not None:
            raise held.error
        if held.session is None:
            raise PoolClosed("The service is shutting down.")
        return held

    async def shell(
        self, tenant: Tenant, session_id: str, command: str, *, timeout_ms: int, sink: Sink, deadline: float
    ) -> Outcome:
        """Raises `SessionMissing`, `PoolTimeout` and `PoolSaturated` before it has begun; `SandboxLost`,
        `RemoteProtocolError`."""
        async with self._session(tenant, session_id, deadline=deadline - timeout_ms / 1000) as session:
            return await session.shell(command, timeout_ms=timeout_ms, sink=sink, deadline=deadline)

    @asynccontextmanager
    async def _session(self, tenant: Tenant, session_id: str, *, deadline: float) -> AsyncIterator[Session]:
        """For one call, which can be made by the deadline."""
        held = self._held_by_us(tenant, session_id)
        if held is None or held.session is None:
            shared, found = await self._shared(tenant.name, session_id)
            with _missing_if_gone(session_id):
                async with shared.channel(found, deadline=deadline) as session:
                    yield session
            return
        try:
            yield held.session
        finally:
            if held.session.is_lost:
                held.unwanted.set()

    @asynccontextmanager
    async def turn(self, tenant: Tenant, session_id: str, deadline: float) -> AsyncIterator[Turn]:
        """The right to run one program in it. Raises `SessionMissing`, and what `Session.turn` raises."""
        async with self._session(tenant, session_id, deadline=deadline) as session, session.turn(deadline) as turn:
            yield turn

    async def close(self, tenant: Tenant, session_id: str) -> None:
        """End it, and all that runs in it. Raises `SessionMissing`, or `PoolTimeout` where it could not be ended."""
        if self._held_by_us(tenant, session_id) is not None:
            self._held.pop(session_id).unwanted.set()
            return
        await self._end_shared(tenant.name, session_id)

    async def _end_shared(self, tenant: str, session_id: str) -> None:
        shared, found = await self._shared(tenant, session_id)
        with _missing_if_gone(session_id):
            await shared.end(found)
        self._metrics.ended("closed")

    # SECURITY: whoever learns of another tenant's id is told no more than of one that never was
    # (tests/integration/test_session_tenants.py, tests/kube/sessions/test_replicas.py).

    def _held_by_us(self, tenant: Tenant, session_id: str) -> Held | None:
        held = self._held.get(session_id)
        if held is None or held.tenant != tenant.name or held.session is None or held.unwanted.is_set():
            return None
        return held

    async def _shared(self, tenant: str, session_id: str) -> tuple[SharedSessions, SharedSession]:
        """Raises `SessionMissing`, or `PoolTimeout` where nobody can know."""
        shared = self._pool.backend.sessions
        found = await shared.find(tenant, session_id) if shared is not None else None
        if shared is None or found is None:
            raise SessionMissing(session_id)
        return shared, found

    def _end_if_unheard_of(self, held: Held) -> None:
        """Looked at when its opener leaves, and when it has become everybody's: whichever comes last."""
        if held.is_shared and held.scope.cancel_called and self._tasks is not None:
            self._tasks.start_soon(self._end_unheard_of, held)

    async def _end_unheard_of(self, held: Held) -> None:
        """Its opener has left before its answer came: nobody knows its id."""
        try:
            await self._end_shared(held.tenant, held.session_id)
        except (SessionMissing, PoolTimeout):  # its time ends it
            return

    def _every(self) -> dict[str, Held | SharedSession]:
        shared = self._pool.backend.sessions
        everybodys = shared.every() if shared is not None else ()
        return {**self._held, **{each.session_id: each for each in everybodys}}

    def _check_room(self, tenant: Tenant) -> None:
        """Raises `SessionsFull`, or `NoSessions`."""
        if self._most == 0:
            raise NoSessions("This service opens no sessions: its limit is 0.")
        every = self._every().values()
        theirs = [each for each in every if each.tenant == tenant.name]
        check_sessions(tenant.limits, open_now=len(theirs), first_ends_in_seconds=_first_end_seconds(theirs))
        if len(every) >= self._most:
            text = f"{len(every)} sessions are open, limit {self._most}."
            raise SessionsFull(text, retry_after_seconds=_first_end_seconds(every))

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
            if lease.may_be_shared:
                await lease.share(held.session_id, held.tenant, expires_at=held.expires_at)
                held.is_shared = True
                self._metrics.opened()
                self._end_if_unheard_of(held)
                return
            held.settled.set()
            with self._metrics.session() as ending:
                with anyio.move_on_after(held.ends_at - anyio.current_time()) as time_left:
                    await _kept_alive(held.session, held.unwanted)
                # `close` has taken it out already.
                is_lost = held.session_id in self._held
                ending.reason = "expired" if time_left.cancelled_caught else "lost" if is_lost else "closed"


async def _kept_alive(session: Session, unwanted: anyio.Event) -> None:
    """Return when it is not wanted any more, or gives no sign of life."""
    while not unwanted.is_set():
        with anyio.move_on_after(PROBE_SECONDS):
            await unwanted.wait()
            return
        try:
            await session.probe(anyio.current_time() + PROBE_ANSWER_SECONDS)
        except (SandboxLost, RemoteProtocolError):
            return


@contextmanager
def _missing_if_gone(session_id: str) -> Iterator[None]:
    try:
        yield
    except SessionGone as error:
        raise SessionMissing(session_id) from error


def _first_end_seconds(sessions: Iterable[Held | SharedSession]) -> float:
    now = time.time()
    return max(1.0, math.ceil(min((each.expires_at for each in sessions), default=now) - now))
