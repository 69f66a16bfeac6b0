"""Sessions of all replicas: found in our copy of the cluster, called through a channel of our own, swept by everybody.

    a call ── found by its label ──▶ a channel: none ── exec, prove ──▶ ours ── a minute unused, or lost ──▶ none

No call writes to the API server, and none but the first of a while reads, or one that finds nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec

from pool.errors import PoolTimeout, SessionGone
from pool.kube.mirror import Change, page
from pool.kube.pods import Pod
from pool.kube.reflector import Reflector
from pool.kube.sandbox import SEEN_SECONDS, House, delete
from pool.kube.session_channel import SessionChannel
from pool.kube.session_key import SessionKey
from pool.kube.session_pods import SESSION, is_id, is_over, open_session_of
from pool.kube.troubles import ClusterError
from pool.session import Session
from pool.shared_session import SharedSession

SWEEP_SECONDS = 5.0
"""Between two looks at what is over or unused. Shorter gains nothing; longer counts sessions that have ended."""

UNUSED_SECONDS = 60.0
"""Then a channel is closed. Longer keeps a process in the pod for nobody, and meets the limits of proxies for streams
on which nothing is said; shorter makes agents that think between two commands wait for an exec (0.1 s)."""

LOOKED_UP_AT_ONCE = 4
"""Ids that the watch does not show, at the API server. More is a flood; fewer makes honest mistakes wait."""


class KubeSessions:
    """One for the life of a backend that has a key."""

    def __init__(self, house: House, reflector: Reflector, key: SessionKey) -> None:
        self._house, self._reflector, self._key = house, reflector, key
        self._channels: dict[str, SessionChannel] = {}
        """By uid of the pod, as all here."""
        self._ended: set[str] = set()
        """By us; our copy may not show it yet."""
        self._news = anyio.Event()
        self._looking_up = anyio.CapacityLimiter(LOOKED_UP_AT_ONCE)

    # --- as `SharedSessions` ---

    def every(self) -> list[SharedSession]:
        return [session for pod in self._reflector.mirror.pods.values() if (session := self._open(pod)) is not None]

    async def find(self, tenant: str, session_id: str) -> SharedSession | None:
        if not is_id(session_id):
            return None
        with anyio.move_on_after(SEEN_SECONDS):
            await self._reflector.synced.wait()
            # SECURITY: another tenant's is waited for as one that never was: nobody can tell them apart by time.
            while (found := self._found(session_id)) is None or found[1].tenant != tenant:
                await self._news.wait()
            return found[1]
        if not self._reflector.is_current:
            text = "the API server cannot be watched at present, and nobody here knows of this session"
            raise PoolTimeout(text, retry_after_seconds=1.0)
        if any(each.tenant == tenant for each in await self._listed(session_id)):
            text = "the session is there, and the watch has not shown it here yet"
            raise PoolTimeout(text, retry_after_seconds=1.0)
        return None

    @asynccontextmanager
    async def channel(self, session: SharedSession, *, deadline: float) -> AsyncIterator[Session]:
        pod = self._pod_of(session)
        channel = self._channels.get(pod.metadata.uid)
        if channel is None:
            channel = SessionChannel(self._house, pod, session, self._key.token(pod.metadata.uid))
            self._channels[pod.metadata.uid] = channel
        async with channel.used(deadline) as used:
            yield used

    async def end(self, session: SharedSession) -> None:
        pod = self._pod_of(session)
        try:
            await delete(self._house.api, self._house.path(pod.metadata.name), pod.metadata)
        except ClusterError as error:
            text = f"the session could not be ended: {error.message}"
            raise PoolTimeout(text, retry_after_seconds=1.0) from error
        self._ended.add(pod.metadata.uid)

    # --- for its backend ---

    def saw(self, change: Change) -> None:
        """A stream may stay open, and frozen, after its pod is gone (kubernetes#129144)."""
        pod = change.new or change.old
        if pod is None:
            return
        if change.new is None:
            self._ended.discard(pod.metadata.uid)
            if channel := self._channels.pop(pod.metadata.uid, None):
                self._house.start(channel.drop)
        self._news.set()
        self._news = anyio.Event()

    async def run(self) -> None:
        while True:
            await anyio.sleep(SWEEP_SECONDS)
            await self._close_unused(anyio.current_time() - UNUSED_SECONDS)
            await self._sweep()

    # --- within ---

    def _open(self, pod: Pod) -> SharedSession | None:
        return None if pod.metadata.uid in self._ended else open_session_of(pod, time.time())

    async def _listed(self, session_id: str) -> list[SharedSession]:
        """As the API server has it: a watch whose connection is half open shows nothing new, and looks well."""
        query = {"labelSelector": f"{SESSION}={session_id}"}
        try:
            # SECURITY: whoever asks for sessions that never were must not flood the API server of everybody.
            async with self._looking_up:
                pods = page(await self._house.api.call("GET", self._house.path(), query=query)).items
        except (ClusterError, msgspec.DecodeError) as error:
            text = f"nobody here knows of this session, and the API server was asked in vain: {error}"
            raise PoolTimeout(text, retry_after_seconds=1.0) from error
        return [session for pod in pods if (session := self._open(pod)) is not None]

    def _found(self, session_id: str) -> tuple[Pod, SharedSession] | None:
        for pod in self._reflector.mirror.pods.values():
            # The label first: terms are decoded for one pod, not for all.
            if pod.metadata.labels.get(SESSION) == session_id and (session := self._open(pod)) is not None:
                return pod, session
        return None

    def _pod_of(self, session: SharedSession) -> Pod:
        """Raises `SessionGone`."""
        found = self._found(session.session_id)
        if found is None:
            raise SessionGone("the session is over")
        return found[0]

    async def _close_unused(self, since: float) -> None:
        for uid, channel in list(self._channels.items()):
            # While one is being closed, another may have been called through, or its pod may be gone.
            if self._channels.get(uid) is channel and channel.is_unused(since):
                del self._channels[uid]
                await channel.drop()

    async def _sweep(self) -> None:
        """Every replica does: whoever made them may be dead. One that cannot be deleted now is tried again."""
        now = time.time()
        for pod in [each for each in self._reflector.mirror.pods.values() if is_over(each, now)]:
            try:
                await delete(self._house.api, self._house.path(pod.metadata.name), pod.metadata)
            except ClusterError as error:
                if not error.status:
                    return
