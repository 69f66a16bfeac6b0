"""The service as a process: one event loop, one listener, and an orderly end.

On SIGTERM or SIGINT: `/ready` turns 503, and for a while whoever still asks is served and sent away with its connection
closed (a load balancer hears of it later than we do). Then no run begins any more, what runs may end within the grace,
the connections close, the pool ends its sandboxes or hands them over, and the process exits. A second signal skips the
waiting.
"""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import structlog
import uvicorn
from anyio.abc import TaskStatus

from broker.app import create_app, create_metrics, create_service
from broker.callers import is_loopback
from broker.connection import Connection
from broker.files import FileStore
from broker.service import Service
from broker.setting_values import SettingsError
from broker.settings import Settings
from broker.storage import open_storage
from broker.tenants import open_tenants
from pool import Backend, Observer, OnlyTroubles, SandboxPool, SharedBackend

# Clients keep a connection between the calls of one conversation, and most do not retry when it closes under them.
KEEP_ALIVE_SECONDS = 75
# What is cut off by the end of the grace may still write its last bytes.
_CLOSE_SECONDS = 1
_POLL_SECONDS = 0.05

_EXAMPLE = """-H 'Content-Type: application/json' -d '{"code": "print(6 * 7)"}'"""

OPEN_TO_ALL = "Whoever reaches this port can run programs and read every stored file. BROKER_KEYS_FILE asks for keys."

_log = structlog.get_logger()

Say = Callable[[str], None]


class Server(uvicorn.Server):
    """uvicorn without its handling of signals: that one raises them again when it is done, in the middle of ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings, backend: Backend, say: Say) -> None:
    """Until a signal ends it. Raises `SettingsError`, or what the backend raises when it cannot start."""
    tenants = open_tenants(settings)
    _warn_if_open(settings)
    listener = bind(settings.host, settings.port)
    async with open_store(settings) as store:
        metrics = create_metrics(settings)
        async with (
            SandboxPool(settings.pool, settings.limits, backend, metrics) as pool,
            session_pool(settings, backend, metrics) as sessions,
        ):
            _spare_what_stays()
            await serve_on(listener, create_service(settings, pool, sessions, store, metrics, tenants), say)


def session_pool(settings: Settings, backend: Backend, observer: Observer) -> SandboxPool:
    """Beside the other one, which runs the backend and is open for longer."""
    shared = SharedBackend(backend, "session-")
    return SandboxPool(settings.session_pool, settings.session_limits, shared, OnlyTroubles(observer))


def _warn_if_open(settings: Settings) -> None:
    if settings.keys_file is None and not is_loopback(settings.host):
        _log.warning("keys.none", host=settings.host, detail=OPEN_TO_ALL)


def _spare_what_stays() -> None:
    """What is loaded by now lives as long as the process: looking through it for garbage takes 22 ms, about once in a
    thousand runs, in which nobody is answered."""
    gc.collect()
    gc.freeze()


def bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(f"HOST={host} PORT={port} cannot be listened on: {why}. PORT=0 takes a free one.") from None


def open_store(settings: Settings) -> FileStore:
    storage = open_storage(settings.file_storage_url, settings.file_storage_dir)
    return FileStore(storage, ttl_seconds=settings.file_ttl_sec, quota_bytes=settings.file_quota_bytes)


async def serve_on(listener: socket.socket, service: Service, say: Say) -> None:
    """Serve on a bound socket until a signal, within a pool that is open."""
    server = Server(config(service))
    async with anyio.create_task_group() as group:
        await group.start(_end_on_signal, server, service)
        group.start_soon(_announce, url_of(listener), service, say)
        await server.serve(sockets=[listener])
        group.cancel_scope.cancel()


def config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service),
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        # Whoever sits in front is not believed: nothing here depends on the client's address.
        proxy_headers=False,
    )


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _announce(url: str, service: Service, say: Say) -> None:
    say(f"Serving {url} (isolation: {service.isolation.level}); starting {service.settings.size} sandboxes …")
    while not service.pool.snapshot().has_been_warm:  # noqa: ASYNC110  # once, at the start
        await anyio.sleep(_POLL_SECONDS)
    key = "-H 'X-API-Key: YOUR_KEY' " if service.settings.keys_file else ""
    say(f"Ready. Try:\n  curl -s {url}/v1/execute {key}{_EXAMPLE}")


async def _end_on_signal(
    server: Server, service: Service, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        service.leave()
        async with anyio.create_task_group() as group:
            group.start_soon(_end_when_idle, server, service)
            await anext(signals)
            server.should_exit = True


async def _end_when_idle(server: Server, service: Service) -> None:
    await anyio.sleep(service.settings.leave_seconds)
    service.drain()
    with anyio.move_on_after(service.settings.grace_seconds):
        await service.drained()
    server.should_exit = True
