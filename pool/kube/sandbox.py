"""One sandbox that is a pod: its exec streams, one after the other, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Protocol

import anyio
import msgspec

from pool.backend import Reconnect
from pool.errors import ChannelLost, PoolTimeout, SandboxLost
from pool.kube import channels, manifest, session_pods
from pool.kube.api import MERGE_PATCH, Api
from pool.kube.pods import Metadata, Pod
from pool.kube.session_key import SessionKey
from pool.kube.streams import ExecChannel
from pool.kube.troubles import ClusterError
from pool.shared_session import SharedSession

DELETE_GRACE_SECONDS = 1
"""Not 0: that would remove the object while the kubelet still runs the pod, and nobody would count it any more."""

CONFLICT = 409  # RFC 9110

SHARE_ATTEMPTS = 5
"""To make a pod a session: the kubelet may change its status in between. Fewer give up on busy nodes."""

SEEN_SECONDS = 1.0
"""For our own watch to show what we have changed, so that we count it. Longer delays answers while no watch holds."""

_POD = msgspec.json.Decoder(Pod)


class House(Protocol):
    """What a pod's sandbox needs of its backend."""

    api: Api
    protocols: tuple[str, ...]
    session_key: SessionKey | None

    def path(self, name: str = "", *rest: str) -> str: ...

    def start(self, pump: Callable[[], Coroutine[None, None, None]]) -> None: ...

    def forget(self, uid: str) -> None: ...


class KubeSandbox:
    """A pod of ours. Its first channel is there once `connect` has returned."""

    def __init__(
        self, slot: str, pod: Pod, house: House, on_lost: Callable[[], None], on_cut: Callable[[], None]
    ) -> None:
        self.name = pod.metadata.name
        self.runs = int(pod.metadata.annotations.get(manifest.RUNS, "0"))
        self.reconnect: Reconnect | None = self._another_channel
        self.gone = anyio.Event()
        """The API server has no such pod any more."""
        self.was_out_of_memory = False
        self._slot, self._pod, self._house = slot, pod, house
        self._on_lost: Callable[[], None] | None = on_lost
        self._on_cut = on_cut
        self._channel: ExecChannel | None = None
        self._is_ours = True
        self._seen_as_session = anyio.Event()

    @property
    def channel(self) -> ExecChannel:
        if self._channel is None:
            raise AssertionError("used before it was connected")
        return self._channel

    @property
    def uid(self) -> str:
        return self._pod.metadata.uid

    @property
    def proof(self) -> str:
        key = self._house.session_key
        return "" if key is None else key.proof(self.uid)

    # --- told by the backend ---

    def saw(self, pod: Pod | None) -> None:
        """What the watch says. A stream may stay open, and frozen, after its pod is gone (kubernetes#129144)."""
        if pod is not None:
            self._pod = pod
            if pod.owner == manifest.SESSIONS:
                self._seen_as_session.set()
            self.was_out_of_memory = pod.was_out_of_memory
        else:
            self.gone.set()
        if pod is None or pod.has_ended:
            self._lose()
        elif pod.is_ending:
            # PID 1 waits for the program that runs. Nothing new may begin: who is idle is told that it has no channel.
            self._on_cut()

    def _lose(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost()

    # --- channels ---

    async def connect(self) -> None:
        """Raises `ChannelLost`, or `SandboxLost` when there is nothing to connect to any more."""
        await self._another_channel()

    async def _another_channel(self) -> ExecChannel:
        if self.gone.is_set() or self._pod.is_ending:
            raise SandboxLost("its pod is gone, or about to go")
        await self._drop_channel("another one is opened")
        self._channel = await opened_channel(self._house, self.name, self._on_cut)
        return self._channel

    async def _drop_channel(self, why: str) -> None:
        if self._channel is not None:
            self._channel.abandon()
            await self._channel.close(why)

    # --- its end ---

    def dismiss(self) -> None:
        """Nobody wants to hear of it any more."""
        self._on_lost = None
        if self._channel is not None:
            self._channel.abandon()

    async def destroy(self) -> None:
        if not self._is_ours:
            return
        self._on_lost = None
        await self._drop_channel("the sandbox was ended")
        if not self.gone.is_set() and await delete(self._house.api, self._house.path(self.name), self._pod.metadata):
            await self.gone.wait()
        self._house.forget(self.uid)

    async def hand_over(self, runs: int) -> bool:
        """Leave it, as it is, to whichever replica wants one."""
        if self.gone.is_set() or self._pod.is_ending:
            return False
        self._on_lost = None
        await self._drop_channel("the sandbox was handed over")
        change = {"labels": {manifest.OWNER: manifest.FREE}, "annotations": {manifest.RUNS: str(runs)}}
        await patch(self._house.api, self._house.path(self.name), self._pod.metadata, {"metadata": change})
        self._house.forget(self.uid)
        return True

    async def share(self, session: SharedSession) -> None:
        try:
            await self._make_session(session)
        except ClusterError as error:
            text = f"the session could not be shown to other replicas: {error.message}"
            raise PoolTimeout(text, retry_after_seconds=1.0) from error
        # Until here whoever gives up has it deleted. From here on nothing is awaited: it is nobody's, or it is ours.
        self._is_ours, self._on_lost = False, None
        self._house.forget(self.uid)
        if self._channel is not None:
            self._channel.abandon()
            self._house.start(partial(self._channel.close, "the session is everybody's"))

    async def _make_session(self, session: SharedSession) -> None:
        path = self._house.path(self.name)
        for attempt in range(SHARE_ATTEMPTS):
            change = session_pods.made_of(session, age_seconds=_age_seconds(self._pod), now=time.time())
            try:
                await patch(self._house.api, path, self._pod.metadata, change)
                break
            except ClusterError as error:
                if error.status != CONFLICT or attempt == SHARE_ATTEMPTS - 1:
                    raise
            self._pod = _POD.decode(await self._house.api.call("GET", path))
        with anyio.move_on_after(SEEN_SECONDS):
            await self._seen_as_session.wait()


def _age_seconds(pod: Pod) -> float:
    return time.time() - datetime.fromisoformat(pod.metadata.creation_timestamp).timestamp()


async def opened_channel(house: House, name: str, on_end: Callable[[], None]) -> ExecChannel:
    """Exec the supervisor, or a bridge to it. Raises `ChannelLost`, or `SandboxLost` where there is no such pod."""
    try:
        stream = await house.api.exec(
            house.path(name, "exec"), manifest.CONTAINER, manifest.SUPERVISE, protocols=house.protocols
        )
    except ClusterError as error:
        if error.is_gone:
            raise SandboxLost("its pod is gone") from error
        raise ChannelLost(str(error)) from error
    if stream.protocol not in channels.PROTOCOLS:
        await stream.close()
        raise ChannelLost("the API server speaks none of our protocols for exec")
    channel = ExecChannel(stream, on_end)
    house.start(channel.pump)
    return channel


async def delete(api: Api, path: str, metadata: Metadata, *, exactly: bool = False) -> bool:
    """This very pod, not another of its name; `exactly`: and only as we know it. False: there is no such pod."""
    conditions = {"uid": metadata.uid}
    if exactly:
        conditions["resourceVersion"] = metadata.resource_version
    options = {"gracePeriodSeconds": DELETE_GRACE_SECONDS, "preconditions": conditions}
    try:
        await api.call("DELETE", path, body=msgspec.json.encode(options))
    except ClusterError as error:
        if error.status not in (404, CONFLICT):
            raise
        return False
    return True


async def patch(api: Api, path: str, metadata: Metadata, change: manifest.Manifest) -> bytes:
    """Change a pod, if nobody has since we saw it. Raises `ClusterError` (`CONFLICT` when somebody has)."""
    seen = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
    body = {**change, "metadata": {**seen, **change["metadata"]}}
    return await api.call("PATCH", path, body=msgspec.json.encode(body), content=MERGE_PATCH)
