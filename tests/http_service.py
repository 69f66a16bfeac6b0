"""The service on a loopback port, in a thread of its own: real uvicorn, real pool, sandboxes fake or real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from broker.app import create_metrics, create_service
from broker.backends import create_backend
from broker.server import Server, bind, config, open_store, session_pool, url_of
from broker.service import Service
from broker.settings import Settings
from pool import Backend, SandboxPool, Snapshot
from tests.fakes.backend import FakeBackend
from tests.fakes.supervisor import FakeSupervisor
from tests.onyx_client import parse_events

START_SECONDS = 60.0


class Running:
    """One service, and a client of it."""

    def __init__(self, url: str, service: Service, backend: Backend, portal: BlockingPortal) -> None:
        self.url = url
        self.service = service
        self.backend: Any = backend
        """Typed loosely: tests reach into the fake one."""
        self.portal = portal
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def execute(self, code: str, **fields: Any) -> httpx.Response:
        return self.client.post("/v1/execute", json={"code": code, **fields})

    def upload(self, data: bytes, name: str = "data.bin") -> str:
        answer = self.client.post("/v1/files", files={"file": (name, data)})
        assert answer.status_code == 201, answer.text
        file_id: str = answer.json()["file_id"]
        return file_id

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call something on the service's own event loop."""
        return self.portal.call(function, *args)

    def snapshot(self) -> Snapshot:
        found: Snapshot = self.portal.call(lambda: self.service.pool.snapshot())
        return found

    def until(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until something is true; fail when it does not become so."""
        self.portal.call(_until, holds, seconds)

    def until_idle(self) -> None:
        """No run is under way, no sandbox is leased, and none is on its way out."""
        self.until(self._is_idle)

    def _is_idle(self) -> bool:
        now = self.service.pool.snapshot()
        return not (self.service.active or now.in_flight or now.slots["retiring"])


def faulty(kind: Callable[[], FakeSupervisor]) -> FakeBackend:
    """Sandboxes of this kind, all but the canary that must be well for any to be leased."""
    backend = FakeBackend(start=kind)
    backend.next_starts.append(FakeSupervisor)
    return backend


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    with anyio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110  # what is waited for tells no one
            await anyio.sleep(0.005)


def make_backend(kind: str, settings: Settings) -> Backend:
    return FakeBackend() if kind == "fake" else create_backend(settings, preload=settings.preload)


@asynccontextmanager
async def serving(settings: Settings, backend: Backend) -> AsyncIterator[tuple[str, Service]]:
    """Serve until the context ends. For tests that have an event loop of their own."""
    listener = bind(settings.host, 0)
    metrics = create_metrics(settings)
    async with (
        open_store(settings) as store,
        SandboxPool(settings.pool, settings.limits, backend, metrics) as pool,
        session_pool(settings, backend, metrics) as sessions,
    ):
        service = create_service(settings, pool, sessions, store, metrics)
        server = Server(config(service))
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            await _until(lambda: server.started and pool.snapshot().has_been_warm, START_SECONDS)
            yield url_of(listener), service
            server.should_exit = True


@contextmanager
def running(folder: Path, backend: str | Backend = "fake", **changed: Any) -> Iterator[Running]:
    """A service whose settings are the defaults but for what is changed."""
    defaults = {"file_storage_dir": str(folder / "files"), "preload": (), "pool_size": 2, "grace_seconds": 1.0}
    settings = Settings(**{**defaults, **changed})
    chosen = make_backend(backend, settings) if isinstance(backend, str) else backend
    with (
        start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(serving(settings, chosen)) as (url, service),
    ):
        found = Running(url, service, chosen, portal)
        try:
            yield found
        finally:
            found.client.close()


def events(answer: httpx.Response) -> list[tuple[str, Any]]:
    """A stream's events, parsed as clients of the compatible API do."""
    return list(parse_events(answer.read().decode().splitlines()))
