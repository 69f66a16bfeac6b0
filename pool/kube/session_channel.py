"""This replica's own channel to one session: opened when a call wants it, dropped when none has for a while.

SECURITY: the first thing that is said on it is the token, to a bridge that has no memory a guest could read: Landlock
holds every guest, or there is no token (`Lease.open_session`; tests/kube/sessions/test_doors.py).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from pool.errors import ChannelLost, PoolSaturated, PoolTimeout, RemoteProtocolError, SandboxLost, SessionGone
from pool.kube.pods import Pod
from pool.kube.sandbox import House, opened_channel
from pool.kube.streams import ExecChannel
from pool.session import MOST_WAITING, Session, joined
from pool.shared_session import SharedSession

JOIN_SECONDS = 5.0
"""For one attempt, from the exec to `opened`. Shorter gives up on busy nodes; longer waits for a frozen stream."""

PROBE_SECONDS = 2.0
"""For a channel to show that somebody is behind it, before a call is said to it. Shorter opens others for nothing on
busy nodes; longer is added to a call's time after a failure that nobody was told of."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""Between two attempts: shorter crowds a node in trouble, longer delays the call."""

_random = random.SystemRandom().random


class SessionChannel:
    """Open or not. Whoever calls meanwhile shares it."""

    def __init__(self, house: House, pod: Pod, terms: SharedSession, token: str) -> None:
        self._house, self._name, self._terms, self._token = house, pod.metadata.name, terms, token
        self._opening = anyio.Lock()
        self._channel: ExecChannel | None = None
        self._session: Session | None = None
        self._users = 0
        self._used_at = anyio.current_time()

    def is_unused(self, since: float) -> bool:
        return not self._users and self._used_at < since

    @asynccontextmanager
    async def used(self, deadline: float) -> AsyncIterator[Session]:
        """For one call. Raises `PoolTimeout` when it cannot be opened by then, `SessionGone` when there is no pod,
        `PoolSaturated` where too many call already."""
        if self._users > MOST_WAITING:
            text = f"{MOST_WAITING} calls of this session are waiting already"
            now, session = anyio.current_time(), self._session
            raise PoolSaturated(text, retry_after_seconds=session.retry_after_seconds(now) if session else 1.0)
        self._users += 1
        try:
            async with self._opening:
                session = await self._working() or await self._opened(deadline)
            yield session
        finally:
            self._users -= 1
            self._used_at = anyio.current_time()

    async def drop(self) -> None:
        self._lose()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abandon()
            await channel.close("it was dropped")

    async def _working(self) -> Session | None:
        """The one that we have, if somebody is behind it: what is said to nobody would be a call that may have run."""
        session = self._session
        if session is None or session.is_lost:
            return None
        try:
            await session.probe(anyio.current_time() + PROBE_SECONDS)
        except (SandboxLost, RemoteProtocolError):
            return None
        return session

    async def _opened(self, deadline: float) -> Session:
        began, pause_seconds = anyio.current_time(), FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._joined(min(deadline, anyio.current_time() + JOIN_SECONDS))
            except ChannelLost as error:
                if anyio.current_time() + pause_seconds > deadline:
                    waited_seconds = anyio.current_time() - began
                    text = f"no channel to the session could be had in {waited_seconds:.2f} s: {error}"
                    raise PoolTimeout(text, retry_after_seconds=1.0) from error
            except SandboxLost as error:
                raise SessionGone(str(error)) from error
            await anyio.sleep(pause_seconds * (0.5 + _random() / 2))
            pause_seconds = min(LONGEST_PAUSE_SECONDS, 1.5 * pause_seconds)

    async def _joined(self, deadline: float) -> Session:
        await self.drop()
        with anyio.CancelScope(deadline=deadline):
            self._channel = await opened_channel(self._house, self._name, self._lose)
            terms = self._terms
            self._session = await joined(self._channel, self._token, protocol=terms.protocol, limits=terms.limits)
            return self._session
        raise ChannelLost("it did not open in time")

    def _lose(self) -> None:
        """It has ended. Whoever calls through it has noticed; whoever waits for a turn is told that nothing has run."""
        session, self._session = self._session, None
        if session is not None:
            session.is_lost = True
