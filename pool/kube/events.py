"""What an operator sees by `kubectl get events`: why there are no sandboxes. On the anchor, once for each cause."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import anyio
import msgspec

from pool.kube.api import Api
from pool.kube.config import ExecutorConfig
from pool.kube.troubles import ClusterError

AGAIN_SECONDS = 300.0
"""For one cause. Less fills a namespace with events; more leaves an operator who looks later without."""

MOST_WAITING = 8


class Events:
    """Tells from a task of its own: an API server in trouble must not hold up those who have something to tell."""

    def __init__(self, api: Api, config: ExecutorConfig, anchor_uid: str | None, owner: str) -> None:
        self._api, self._config, self._anchor_uid, self._owner = api, config, anchor_uid, owner
        self._told_at: dict[str, float] = {}
        self._send, self._receive = anyio.create_memory_object_stream[tuple[str, str]](MOST_WAITING)

    def tell(self, reason: str, text: str) -> None:
        now = anyio.current_time()
        if self._anchor_uid is None or now - self._told_at.get(reason, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        self._told_at[reason] = now
        try:
            self._send.send_nowait((reason, text))
        except anyio.WouldBlock:  # there are many already, and they say enough
            return

    async def run(self) -> None:
        with self._send, self._receive:
            async for reason, text in self._receive:
                try:
                    await self._post(reason, text)
                except ClusterError:
                    self._told_at.pop(reason, None)

    async def _post(self, reason: str, text: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        anchor = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": self._config.anchor,
            "namespace": self._config.namespace,
            "uid": self._anchor_uid,
        }
        event = {
            "metadata": {"name": f"{self._config.anchor}.{secrets.token_hex(6)}"},
            "involvedObject": anchor,
            "type": "Warning",
            "reason": "NoSandbox" + "".join(word.capitalize() for word in reason.split("_")),
            "message": text[:1000],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "code-interpreter", "host": self._owner},
        }
        path = f"/api/v1/namespaces/{self._config.namespace}/events"
        await self._api.call("POST", path, body=msgspec.json.encode(event))
