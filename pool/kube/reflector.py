"""Keeps a mirror of our pods: LIST, then WATCH from there on, for as long as the backend runs."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import msgspec

from pool.kube.api import Api
from pool.kube.mirror import Change, Expired, Mirror, Page, WatchFailed, page
from pool.kube.troubles import ClusterError

PAGE_PODS = 500
WATCH_SECONDS = 300
"""Then the server ends it and we go on: fewer leave a half-open connection unnoticed for longer."""
SILENCE_SECONDS = 90.0
"""A bookmark comes about every minute. Longer is a connection that nobody is behind."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 30.0
QUICK_SECONDS = 1.0
"""A watch that ends sooner was refused in all but name: not again at once."""

_random = random.SystemRandom()


class Reflector:
    """One for each set of pods."""

    def __init__(self, api: Api, namespace: str, selector: str, on_change: Callable[[Change], None]) -> None:
        self.mirror = Mirror()
        self.is_current = False
        """There is a watch, as far as we know."""
        self.synced = anyio.Event()
        """It has seen all pods once."""
        self.trouble: ClusterError | None = None
        """Why it sees nothing at present, if the API server has said so."""
        self._api, self._selector, self._on_change = api, selector, on_change
        self._path = f"/api/v1/namespaces/{namespace}/pods"

    async def run(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._follow()
                pause_seconds = FIRST_PAUSE_SECONDS
            except Expired:
                await anyio.sleep(_random.uniform(0, 0.5))
            except (ClusterError, WatchFailed, msgspec.DecodeError) as error:
                if isinstance(error, msgspec.DecodeError):
                    self.mirror.version = None
                if isinstance(error, ClusterError) and error.status == 410:
                    self.mirror.version = None
                self.is_current = False
                self.trouble = error if isinstance(error, ClusterError) else None
                least_seconds = error.retry_after_seconds if isinstance(error, ClusterError) else 0.0
                await anyio.sleep(max(least_seconds, _random.uniform(pause_seconds / 2, pause_seconds)))
                pause_seconds = min(LONGEST_PAUSE_SECONDS, pause_seconds * 2)

    async def _follow(self) -> None:
        if self.mirror.version is None:
            await self._list()
        began = anyio.current_time()
        await self._watch()
        if anyio.current_time() - began < QUICK_SECONDS:
            await anyio.sleep(_random.uniform(0.5, 1.5))

    async def _list(self) -> None:
        """Consistent, with no version asked for: an old list would show pods that are gone."""
        pages: list[Page] = []
        while not pages or pages[-1].metadata.continue_:
            query = {"labelSelector": self._selector, "limit": str(PAGE_PODS)}
            if pages:
                query["continue"] = pages[-1].metadata.continue_
            pages.append(page(await self._api.call("GET", self._path, query=query)))
        for change in self.mirror.listed(pages):
            self._on_change(change)
        self.synced.set()

    async def _watch(self) -> None:
        query = {
            "labelSelector": self._selector,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.mirror.version or "",
            "timeoutSeconds": str(int(WATCH_SECONDS * _random.uniform(1.0, 1.1))),
        }
        async with self._api.watch(self._path, query, silence_seconds=SILENCE_SECONDS) as stream:
            self.is_current, self.trouble = True, None
            rest = bytearray()
            async for data in stream.iter_any():  # lines have no bound that `readline` would know
                rest += data
                *lines, last = rest.split(b"\n")
                rest = bytearray(last)
                for line in filter(None, lines):
                    self._hear(bytes(line))

    def _hear(self, line: bytes) -> None:
        change = self.mirror.heard(line)
        if change is not None:
            self._on_change(change)
