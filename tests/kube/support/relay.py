"""A relay in front of the API server that can be told to fail as networks and load balancers do: without a word.

The pool talks plain HTTP to it, so it can tell streams (exec, watch) from calls.

async with relay_to(cluster, tmp_path) as relay, kube_pool(..., kubeconfig=relay.kubeconfig) as pool:
    relay.freeze("call", new=True)
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from tests.cluster.harness import Cluster

Kind = Literal["exec", "watch", "call"]
LOOPBACK = "127.0.0.1"
LONGEST_HEAD_BYTES = 64 * 1024
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Connection:
    """One of a client, and the one to the API server behind it."""

    def __init__(self, kind: Kind, client: ByteStream, server: ByteStream) -> None:
        self.kind, self.client, self.server = kind, client, server
        self.flows = anyio.Event()
        self.flows.set()
        self.is_half_open = False

    async def carry(self, source: ByteStream, target: ByteStream) -> None:
        """Until one side ends; then both do, unless the client is not to know."""
        with suppress(*GONE):
            while True:
                data = await source.receive()
                await self.flows.wait()
                await target.send(data)
        if self.is_half_open:
            await anyio.sleep_forever()


class Relay:
    """Where it is, and how it fails at present."""

    def __init__(self, upstream: str, tls: ssl.SSLContext) -> None:
        self.kubeconfig = Path()
        address = urlsplit(upstream)
        self._host, self._port, self._tls = address.hostname or "", address.port or 443, tls
        self._connections: set[Connection] = set()
        self._frozen_kinds: set[Kind] = set()
        self.accepted: list[Kind] = []
        """What each connection was for, in order."""

    def freeze(self, *kinds: Kind, new: bool = False) -> None:
        """Nothing of these flows any more, and nobody is told; `new`: of connections to come neither."""
        for connection in self._of(kinds):
            connection.flows = anyio.Event()
        if new:
            self.freeze_new(*kinds)

    def freeze_new(self, *kinds: Kind) -> None:
        """Those that are open go on; others come to nothing."""
        self._frozen_kinds |= set(kinds)

    async def half_open(self, *kinds: Kind) -> None:
        """The API server sees these end; their clients see nothing."""
        for connection in self._of(kinds):
            connection.is_half_open = True
            await connection.server.aclose()

    def thaw(self) -> None:
        self._frozen_kinds.clear()
        for connection in self._connections:
            connection.flows.set()

    def _of(self, kinds: tuple[Kind, ...]) -> list[Connection]:
        return [each for each in self._connections if each.kind in kinds]

    async def serve(self, client: SocketStream) -> None:
        async with client:
            with suppress(*GONE, OSError, ssl.SSLError):
                head = await _head(client)
                server = await anyio.connect_tcp(
                    self._host, self._port, ssl_context=self._tls, tls_standard_compatible=False
                )
                async with server:
                    await self._relay(Connection(_kind(head), client, server), head)

    async def _relay(self, connection: Connection, head: bytes) -> None:
        self.accepted.append(connection.kind)
        self._connections.add(connection)
        if connection.kind in self._frozen_kinds:
            connection.flows = anyio.Event()
        try:
            await connection.flows.wait()
            await connection.server.send(head)
            async with anyio.create_task_group() as tasks:

                async def carry(source: ByteStream, target: ByteStream) -> None:
                    await connection.carry(source, target)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(carry, connection.client, connection.server)
                tasks.start_soon(carry, connection.server, connection.client)
        finally:
            self._connections.discard(connection)


async def _head(client: SocketStream) -> bytes:
    head = b""
    while b"\r\n" not in head and len(head) < LONGEST_HEAD_BYTES:
        head += await client.receive()
    return head


def _kind(head: bytes) -> Kind:
    line = head.split(b"\r\n", 1)[0]
    return "exec" if b"/exec?" in line else "watch" if b"watch=1" in line else "call"


@asynccontextmanager
async def relay_to(cluster: Cluster, folder: Path, kubeconfig: Path | None = None) -> AsyncIterator[Relay]:
    """A relay for whoever `kubeconfig` names; its own `kubeconfig` leads through it."""
    named = [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
    found = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json", *named))
    server, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    relay = Relay(server["server"], _tls(server, user))
    listener = await anyio.create_tcp_listener(local_host=LOOPBACK, local_port=0)
    port = listener.extra(SocketAttribute.local_port)
    tokens = {name: value for name, value in user.items() if name == "token"}
    relay.kubeconfig = written(folder / "relay.kubeconfig", {"server": f"http://{LOOPBACK}:{port}"}, tokens)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, relay.serve)
        try:
            yield relay
        finally:
            tasks.cancel_scope.cancel()


def _tls(server: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as file:
            for name in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[name]) + b"\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


def written(path: Path, server: dict[str, Any], user: dict[str, Any]) -> Path:
    """A kubeconfig file."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": server}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path.write_text(json.dumps(config))
    return path
