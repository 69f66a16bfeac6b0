"""Who owns which pods: a Lease for each replica, and what becomes of the pods of one that is dead.

    mine        label owner = my name   kept by a keeper, or left over by a start of mine that failed: deleted
    free        owner = free            handed over by a replica that has ended well: the first that wants one takes it
    session     owner = session         made by any, served by all: it ends with its time (`sessions.py`)
    another's                           left alone while its Lease changes; deleted once it has not for a while

`owner` is the pod's name and a nonce of this start: a container that was restarted must not trust the pods of its
former life. Nothing here is waited for by a request.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import anyio
import msgspec

from pool.kube import manifest
from pool.kube.api import MERGE_PATCH, Api
from pool.kube.config import ExecutorConfig
from pool.kube.mirror import Mirror
from pool.kube.pods import Metadata, Pod
from pool.kube.sandbox import delete
from pool.kube.troubles import ClusterError
from pool.kube.witness import RENEW_SECONDS, Witness

LEASE_SECONDS = 15
STRAY_SECONDS = 30.0
"""A pod of ours that no keeper knows, or one that nobody has taken. Less deletes what is just being made, or handed
over."""


class _Lease(msgspec.Struct):
    metadata: Metadata


class _Leases(msgspec.Struct):
    items: list[_Lease] = []


_LEASES = msgspec.json.Decoder(_Leases)


def new_owner(replica: str) -> str:
    """A label's value and an object's name: at most 63 characters."""
    return f"{re.sub('[^a-z0-9-]', '-', replica.lower())[:50].strip('-') or 'replica'}-{secrets.token_hex(4)}"


class Owners:
    """Renews our Lease, reads the others', and deletes what nobody owns any more."""

    def __init__(
        self, api: Api, config: ExecutorConfig, owner: str, anchor_uid: str | None, knows: Callable[[str], bool]
    ) -> None:
        self._api, self._config, self._owner, self._knows = api, config, owner, knows
        self._anchor_uid = anchor_uid
        self._witness = Witness()
        self._strays: dict[str, float] = {}
        """Since when, by uid."""
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{config.namespace}/leases"

    # --- our own Lease ---

    async def announce(self) -> None:
        """Make our Lease. Raises `ClusterError`."""
        await self._api.call("POST", self._path, body=msgspec.json.encode(self._lease()))

    async def withdraw(self) -> None:
        try:
            await self._api.call("DELETE", f"{self._path}/{self._owner}")
        except ClusterError:  # the others will see that it does not change any more
            return

    async def _renew(self) -> None:
        body = msgspec.json.encode({"spec": {"renewTime": _now()}})
        try:
            await self._api.call("PATCH", f"{self._path}/{self._owner}", body=body, content=MERGE_PATCH)
        except ClusterError as error:
            if not error.is_gone:
                raise
            await self.announce()

    def _lease(self) -> manifest.Manifest:
        metadata: manifest.Manifest = {"name": self._owner, "labels": {manifest.POOL: self._config.pool}}
        if self._anchor_uid is not None:
            # A release that is uninstalled takes our right to delete it with it.
            reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": self._config.anchor, "uid": self._anchor_uid}
            metadata["ownerReferences"] = [reference]
        spec = {"holderIdentity": self._owner, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": _now()}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    # --- the others ---

    async def run(self, mirror: Mirror, wants: Callable[[Pod], bool]) -> None:
        """For as long as the backend runs. `wants` says whether this replica would take a free pod at present."""
        while True:
            try:
                await self._renew()
                await self._look_around(mirror, wants)
            except ClusterError:
                self._witness.lost_sight()
            except msgspec.DecodeError:
                self._witness.lost_sight()
            await anyio.sleep(RENEW_SECONDS)

    async def _look_around(self, mirror: Mirror, wants: Callable[[Pod], bool]) -> None:
        data = await self._api.call("GET", self._path, query={"labelSelector": f"{manifest.POOL}={self._config.pool}"})
        versions = {each.metadata.name: each.metadata.resource_version for each in _LEASES.decode(data).items}
        pods, now = list(mirror.pods.values()), anyio.current_time()
        self._witness.read(versions, _others(pods, self._owner), now)
        dead = self._witness.dead(now) - {self._owner}
        for pod in [*self._strays_among(pods, wants, now), *(each for each in pods if each.owner in dead)]:
            path = f"/api/v1/namespaces/{self._config.namespace}/pods/{pod.metadata.name}"
            await delete(self._api, path, pod.metadata, exactly=True)
        for name in dead & versions.keys():
            await self._bury(name)

    def _strays_among(self, pods: Iterable[Pod], wants: Callable[[Pod], bool], now: float) -> list[Pod]:
        """Pods of ours that nobody here knows, and free ones that we do not want, for so long that others had time."""
        strays = {each.metadata.uid: each for each in pods if self._is_stray(each, wants)}
        self._strays = {uid: self._strays.get(uid, now) for uid in strays}
        return [strays[uid] for uid, since in self._strays.items() if now - since >= STRAY_SECONDS]

    def _is_stray(self, pod: Pod, wants: Callable[[Pod], bool]) -> bool:
        if pod.metadata.deletion_timestamp is not None:
            return False
        if pod.owner == manifest.FREE:
            return not wants(pod)
        return pod.owner == self._owner and not self._knows(pod.metadata.uid)

    async def _bury(self, name: str) -> None:
        try:
            await self._api.call("DELETE", f"{self._path}/{name}")
        except ClusterError as error:
            if not error.is_gone:
                raise


def _others(pods: Iterable[Pod], own: str) -> set[str]:
    return {pod.owner for pod in pods} - {own, manifest.FREE, manifest.SESSIONS, ""}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
