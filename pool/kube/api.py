"""The API server: its configuration, sessions and calls.

The client library is used for TLS, credentials and nothing else: its models cost 2 to 3 ms a pod, and its exec drops
the exit code.

Two sessions: a stream holds its connection for hours, and a call must not wait behind one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import aiohttp
import anyio
from kubernetes_asyncio import client, config

from pool.kube import channels
from pool.kube.troubles import ClusterError, refusal

CALL_SECONDS = 10.0
"""For one call. Less gives up on a busy server, more on a dead one later."""

OPEN_SECONDS = 10.0
"""For a stream to open: behind it stand the server, the kubelet and the container runtime."""

JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
Query = Mapping[str, str]


class Api:
    """One for the life of a backend."""

    def __init__(self, configuration: client.Configuration) -> None:
        # 100 by default: the 101st open stream would block everything.
        configuration.connection_pool_maxsize = 0
        self._configuration = configuration
        self._calls, self._streams = client.ApiClient(configuration), client.ApiClient(configuration)

    @property
    def host(self) -> str:
        return str(self._configuration.host)

    async def close(self) -> None:
        await self._calls.close()
        await self._streams.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes = b"",
        content: str = "application/json",
    ) -> bytes:
        """The answer's body. Raises `ClusterError`, for want of an answer too."""
        try:
            with anyio.fail_after(CALL_SECONDS):
                headers = {**await self._headers(), "Content-Type": content}
                async with self._session(self._calls).request(
                    method,
                    self.host + path,
                    params=query,
                    data=body or None,
                    headers=headers,
                    proxy=self._configuration.proxy,
                    server_hostname=self._configuration.tls_server_name,
                ) as response:
                    data = await response.read()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise ClusterError(0, "", f"the API server did not answer: {_words(error)}") from error
        if response.status >= 300:
            raise refusal(response.status, data, response.headers.get("Retry-After", ""))
        return data

    @asynccontextmanager
    async def watch(self, path: str, query: Query, *, silence_seconds: float) -> AsyncIterator[aiohttp.StreamReader]:
        """A stream of lines. Silence for so long ends it: a half-open connection says nothing for ever."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS, sock_read=silence_seconds)
        try:
            async with self._session(self._streams).get(
                self.host + path,
                params=query,
                headers=await self._headers(),
                timeout=timeout,
                proxy=self._configuration.proxy,
                server_hostname=self._configuration.tls_server_name,
            ) as response:
                if response.status != 200:
                    raise refusal(response.status, await response.read(), response.headers.get("Retry-After", ""))
                yield response.content
        except (aiohttp.ClientError, OSError) as error:
            raise ClusterError(0, "", f"the watch was lost: {_words(error)}") from error

    async def exec(
        self, path: str, container: str, command: Sequence[str], *, protocols: Sequence[str] = channels.PROTOCOLS
    ) -> aiohttp.ClientWebSocketResponse:
        """An open stream: open does not mean started. Raises `ClusterError`."""
        query = [("container", container), ("stdin", "1"), ("stdout", "1"), ("stderr", "1")]
        words = urlencode([*query, *(("command", word) for word in command)], quote_via=quote)
        try:
            with anyio.fail_after(OPEN_SECONDS):
                return await self._session(self._streams).ws_connect(
                    f"{self.host}{path}?{words}",
                    protocols=tuple(protocols),
                    headers=await self._headers(),
                    max_msg_size=0,
                    compress=0,
                    # Its pings do not refresh the server's idle deadline, and their lack says nothing about a pod.
                    heartbeat=None,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    proxy=self._configuration.proxy,
                    server_hostname=self._configuration.tls_server_name,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise ClusterError(error.status, "", f"the exec was refused: {error.message}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ClusterError(0, "", f"no stream could be opened: {_words(error)}") from error

    @staticmethod
    def _session(own: client.ApiClient) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = own.rest_client.pool_manager
        return session

    async def _headers(self) -> dict[str, str]:
        # Each time: a token is renewed while we run.
        try:
            token = await self._configuration.get_api_key_with_prefix("BearerToken")
        except config.ConfigException as error:
            raise ClusterError(0, "", f"no credentials for the API server: {error}") from error
        return {"Authorization": token} if token else {}


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def connect(kubeconfig: str | None) -> Api:
    """From a kubeconfig file, or as a pod of the cluster. Raises `ClusterError` where there is neither."""
    configuration = client.Configuration()
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
        else:
            await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(0, "", f"no cluster to work with: {error}") from error
    return Api(configuration)
