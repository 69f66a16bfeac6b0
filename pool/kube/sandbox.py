"""One sandbox that is a pod: its exec streams, one after the other, and its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Protocol

import anyio
import msgspec

from pool.backend import Reconnect
from pool.errors import ChannelLost, SandboxLost
from pool.kube import channels, manifest
from pool.kube.api import MERGE_PATCH, Api
from pool.kube.pods import Metadata, Pod
from pool.kube.streams import ExecChannel
from pool.kube.troubles import ClusterError

DELETE_GRACE_SECONDS = 1
"""Not 0: that would remove the object while the kubelet still runs the pod, and nobody would count it any more."""


class House(Protocol):
    """What a pod's sandbox needs of its backend."""

    api: Api
    protocols: tuple[str, ...]

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

    @property
    def channel(self) -> ExecChannel:
        if self._channel is None:
            raise AssertionError("used before it was connected")
        return self._channel

    @property
    def uid(self) -> str:
        return self._pod.metadata.uid

    # --- told by the backend ---

    def saw(self, pod: Pod | None) -> None:
        """What the watch says. A stream may stay open, and frozen, after its pod is gone (kubernetes#129144)."""
        if pod is not None:
            self._pod = pod
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
        house = self._house
        try:
            stream = await house.api.exec(
                house.path(self.name, "exec"), manifest.CONTAINER, manifest.SUPERVISE, protocols=house.protocols
            )
        except ClusterError as error:
            if error.is_gone:
                raise SandboxLost("its pod is gone") from error
            raise ChannelLost(str(error)) from error
        if stream.protocol not in channels.PROTOCOLS:
            await stream.close()
            raise ChannelLost("the API server speaks none of our protocols for exec")
        self._channel = ExecChannel(stream, self._on_cut)
        house.start(self._channel.pump)
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
        await patch(self._house.api, self._house.path(self.name), self._pod.metadata, change)
        self._house.forget(self.uid)
        return True


async def delete(api: Api, path: str, metadata: Metadata, *, exactly: bool = False) -> bool:
    """This very pod, not another of its name; `exactly`: and only as we know it. False: there is no such pod."""
    conditions = {"uid": metadata.uid}
    if exactly:
        conditions["resourceVersion"] = metadata.resource_version
    options = {"gracePeriodSeconds": DELETE_GRACE_SECONDS, "preconditions": conditions}
    try:
        await api.call("DELETE", path, body=msgspec.json.encode(options))
    except ClusterError as error:
        if error.status not in (404, 409):
            raise
        return False
    return True


async def patch(api: Api, path: str, metadata: Metadata, change: dict[str, dict[str, str]]) -> bytes:
    """Change its metadata, if nobody has since we saw it. Raises `ClusterError` (409 when somebody has)."""
    body = {"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version, **change}}
    return await api.call("PATCH", path, body=msgspec.json.encode(body), content=MERGE_PATCH)
