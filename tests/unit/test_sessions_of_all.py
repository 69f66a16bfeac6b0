"""Sessions that are everybody's, as the broker of one replica has them: made, counted, and never left to nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from broker.errors import SessionMissing, SessionsFull
from broker.limits import Limits
from broker.sessions import Sessions
from broker.tenants import Tenant
from pool import RunLimits, SharedSession
from tests.fakes.clock import in_virtual_time

ANA, BOB = Tenant("ana", Limits(sessions=2)), Tenant("bob", Limits(sessions=2))


class Cluster:
    """What all replicas see, and a pool whose sandboxes become part of it."""

    def __init__(self) -> None:
        self.open: dict[str, SharedSession] = {}
        self.before_it_shows: Callable[[], None] = lambda: None
        self.leases = 0
        self.backend = SimpleNamespace(sessions=self)

    # --- as a pool ---

    @asynccontextmanager
    async def lease(self, **_: Any) -> AsyncIterator[Any]:
        self.leases += 1
        try:
            yield SimpleNamespace(
                over=anyio.Event(), may_be_shared=True, open_session=self._become_session, share=self._share
            )
        finally:
            self.leases -= 1

    async def _become_session(self, **_: Any) -> object:
        return object()

    async def _share(self, session_id: str, tenant: str, *, expires_at: float) -> None:
        await anyio.sleep(0.1)
        self.before_it_shows()
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

    async def end(self, session: SharedSession) -> None:
        del self.open[session.session_id]


@asynccontextmanager
async def replicas(cluster: Cluster, *, most: int = 3) -> AsyncIterator[tuple[Sessions, Sessions]]:
    both = tuple(Sessions(cluster, most=most, loopback=False) for _ in range(2))  # type: ignore[arg-type]  # as much as is used
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
        assert (cluster.leases, len(one), len(two)) == (0, 1, 1)
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
