"""Sessions as the broker of one replica has them: those that are everybody's, and those that are its own alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from broker.errors import SessionMissing, SessionsFull
from broker.limits import Limits
from broker.metrics import Metrics
from broker.sessions import PROBE_SECONDS, Sessions
from broker.tenants import Tenant
from pool import RunLimits, SandboxLost, Session, SessionGone, SharedSession
from pool.frames import Frames
from sandbox_runtime import wire
from tests.fakes.clock import in_virtual_time
from tests.fakes.scripted import Said, Scripted, well
from tests.fakes.sinks import KeepingSink

ANA, BOB = Tenant("ana", Limits(sessions=2)), Tenant("bob", Limits(sessions=2))


class Probed:
    """A session on its maker's channel."""

    is_lost = False

    def __init__(self) -> None:
        self.probed_at: list[float] = []
        self.is_alive = True

    async def probe(self, deadline: float) -> None:
        self.probed_at.append(anyio.current_time())
        if not self.is_alive:
            raise SandboxLost("it fell silent")


class Cluster:
    """What all replicas see, and a pool whose sandboxes become part of it."""

    def __init__(self) -> None:
        self.open: dict[str, SharedSession] = {}
        self.before_it_shows: Callable[[], None] = lambda: None
        self.is_slow_to_answer = False
        self.leases = 0
        self.may_be_shared = True
        self.is_gone = False
        """Though it shows still."""
        self.session = Probed()
        self.backend = SimpleNamespace(sessions=self)

    # --- as a pool ---

    @asynccontextmanager
    async def lease(self, **_: Any) -> AsyncIterator[Any]:
        self.leases += 1
        try:
            yield SimpleNamespace(
                over=anyio.Event(),
                may_be_shared=self.may_be_shared,
                open_session=self._become_session,
                share=self._share,
            )
        finally:
            self.leases -= 1

    async def _become_session(self, **_: Any) -> Any:
        return self.session

    async def _share(self, session_id: str, tenant: str, *, expires_at: float) -> None:
        await anyio.sleep(0.1)
        self.before_it_shows()
        if self.is_slow_to_answer:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
        terms = SharedSession(
            session_id=session_id, tenant=tenant, expires_at=expires_at, protocol=3, limits=RunLimits()
        )
        self.open[session_id] = terms

    # --- as shared sessions ---

    def every(self) -> list[SharedSession]:
        return list(self.open.values())

    async def find(self, tenant: str, session_id: str) -> SharedSession | None:
        found = self.open.get(session_id)
        return found if found is not None and found.tenant == tenant else None

    @asynccontextmanager
    async def channel(self, session: SharedSession, *, deadline: float) -> AsyncIterator[Any]:
        self._look()
        yield None

    def _look(self) -> None:
        if self.is_gone:
            raise SessionGone("its pod is gone")

    async def end(self, session: SharedSession) -> None:
        self._look()
        del self.open[session.session_id]


def one_replicas(cluster: Cluster, most: int) -> Sessions:
    metrics = Metrics(max_in_flight=1, version="0", backend="fake").sessions
    return Sessions(cluster, most=most, loopback=False, metrics=metrics)  # type: ignore[arg-type]  # as much as is used


@asynccontextmanager
async def replicas(cluster: Cluster, *, most: int = 3) -> AsyncIterator[tuple[Sessions, Sessions]]:
    both = tuple(one_replicas(cluster, most) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        for each in both:
            tasks.start_soon(each.run)
        await anyio.sleep(0.1)
        yield both[0], both[1]
        tasks.cancel_scope.cancel()


async def opened(sessions: Sessions, tenant: Tenant) -> str:
    return (await sessions.open(tenant, ttl_seconds=60, files=(), lease_deadline=100.0)).session_id


@in_virtual_time
async def test_it_outlives_its_lease_and_its_maker() -> None:
    cluster = Cluster()
    async with replicas(cluster) as (one, two):
        session_id = await opened(one, ANA)
        assert (cluster.leases, one.tenants(), two.tenants()) == (0, ["ana"], ["ana"])
    async with replicas(cluster) as (later, _):
        await later.close(ANA, session_id)
    assert cluster.open == {}


@in_virtual_time
async def test_anothers_is_missing() -> None:
    cluster = Cluster()
    async with replicas(cluster) as (one, two):
        session_id = await opened(one, ANA)
        for each in (one, two):
            with pytest.raises(SessionMissing):
                await each.close(BOB, session_id)


@in_virtual_time
async def test_what_others_have_made_counts() -> None:
    async with replicas(Cluster()) as (one, two):
        for each in (one, two):
            await opened(each, ANA)
        with pytest.raises(SessionsFull, match="This tenant has 2 sessions, limit 2"):
            await opened(one, ANA)
        await opened(two, BOB)
        with pytest.raises(SessionsFull, match="3 sessions are open, limit 3"):
            await opened(one, BOB)


@in_virtual_time
async def test_what_is_being_made_counts() -> None:
    async with replicas(Cluster()) as (one, _), anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(opened, one, ANA)
        await anyio.sleep(0.05)
        with pytest.raises(SessionsFull):
            await opened(one, ANA)


@in_virtual_time
async def test_one_whose_opener_leaves_in_the_last_moment_is_ended() -> None:
    cluster = Cluster()
    async with replicas(cluster) as (one, _):
        with anyio.CancelScope() as opener:
            cluster.before_it_shows = opener.cancel
            await opened(one, ANA)
        assert len(cluster.open) == 1
        await anyio.sleep(0.1)
        assert (cluster.open, cluster.leases) == ({}, 0)


@in_virtual_time
async def test_one_whose_opener_leaves_before_its_maker_is_told_is_ended() -> None:
    cluster = Cluster()
    cluster.is_slow_to_answer = True
    async with replicas(cluster) as (one, _):
        with anyio.CancelScope() as opener:
            cluster.before_it_shows = opener.cancel
            await opened(one, ANA)
        await anyio.sleep(0.2)
        assert (cluster.open, cluster.leases) == ({}, 0)


@in_virtual_time
async def test_one_that_has_gone_since_it_was_seen_is_missing() -> None:
    cluster = Cluster()
    async with replicas(cluster) as (one, two):
        session_id = await opened(one, ANA)
        cluster.is_gone = True
        for call in (sleeping(two, session_id, anyio.CancelScope()), two.close(ANA, session_id)):
            with pytest.raises(SessionMissing):
                await call


# --- where none can be shared ---


@in_virtual_time
async def test_one_that_is_ours_alone_is_kept_alive_for_its_time_and_found_here_only() -> None:
    cluster = Cluster()
    cluster.may_be_shared = False
    async with replicas(cluster) as (one, two):
        began, session_id = anyio.current_time(), await opened(one, ANA)
        with pytest.raises(SessionMissing):
            await two.close(ANA, session_id)
        await anyio.sleep(1.5 * PROBE_SECONDS)
        assert (cluster.session.probed_at, cluster.leases) == ([began + PROBE_SECONDS], 1)
        await anyio.sleep(PROBE_SECONDS)
        assert (cluster.leases, len(one)) == (0, 0)


@in_virtual_time
async def test_one_that_gives_no_sign_of_life_takes_no_place() -> None:
    cluster = Cluster()
    cluster.may_be_shared = False
    async with replicas(cluster) as (one, _):
        await opened(one, ANA)
        cluster.session.is_alive = False
        await anyio.sleep(PROBE_SECONDS + 1)
        assert (cluster.leases, len(one)) == (0, 0)


class Far(Scripted):
    """What is said to it takes a while, so that others act meanwhile. Commands go on until they are cancelled."""

    def __init__(self) -> None:
        super().__init__(self._until_cancelled)

    async def send(self, data: bytes) -> None:
        await anyio.sleep(0.1)
        await super().send(data)

    def _until_cancelled(self, message: wire.Message) -> Said:
        return [] if isinstance(message, wire.Shell) else well(message)


async def sleeping(sessions: Sessions, session_id: str, scope: anyio.CancelScope) -> None:
    with scope:
        deadline = anyio.current_time() + 19.0
        await sessions.shell(ANA, session_id, "sleep 9", timeout_ms=10_000, sink=KeepingSink(), deadline=deadline)


@in_virtual_time
async def test_callers_who_leave_together_leave_the_session_to_the_next_one() -> None:
    cluster, channel = Cluster(), Far()
    cluster.may_be_shared = False
    cluster.session = Session(Frames(channel), RunLimits())  # type: ignore[assignment]  # one that does calls
    async with replicas(cluster) as (one, _):
        session_id = await opened(one, ANA)
        scopes = [anyio.CancelScope(), anyio.CancelScope()]
        async with anyio.create_task_group() as callers:
            for scope in scopes:
                callers.start_soon(sleeping, one, session_id, scope)
                await anyio.sleep(1)
            for scope in scopes:
                scope.cancel()
                await anyio.sleep(0.05)
        await anyio.sleep(1)
        assert (channel.kinds(), cluster.leases) == (["stage", "shell", "cancel"], 1)
        await one.close(ANA, session_id)
