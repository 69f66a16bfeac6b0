"""The application: which path is what, and what an exception becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from broker import documents, errors, execution_routes, file_routes, routes, session_routes
from broker.authentication import Authentication, open_paths
from broker.callers import rules
from broker.claims_sweep import sweep_claims_forever
from broker.edge import Edge, error_response
from broker.execute import execute
from broker.failures import log_failure
from broker.files import FileStore
from broker.metrics import PREFIX, Metrics, PoolCollector
from broker.service import Service
from broker.sessions import Sessions
from broker.settings import Settings
from broker.stream import execute_stream
from broker.sweep import sweep_forever
from broker.tenant_metrics import TenantFilesCollector
from broker.tenants import Tenants, open_tenants
from broker.version import SERVICE_VERSION
from pool import InputsRefused, Isolation, PoolError, ProtocolError, SandboxError, SandboxPool

ROUTES = [
    Route("/health", routes.health),
    Route("/ready", routes.ready),
    Route("/metrics", routes.metrics),
    Route("/openapi.json", documents.openapi),
    Route("/docs", documents.docs),
    Route("/", documents.playground),
    Route("/pages/{name}", documents.page_file),
    Route("/v1/execute", execute, methods=["POST"]),
    Route("/v1/execute/stream", execute_stream, methods=["POST"]),
    Route("/v1/sessions", session_routes.open_session, methods=["POST"]),
    Route("/v1/sessions/{session_id}/bash", session_routes.bash, methods=["POST"]),
    Route("/v1/sessions/{session_id}", session_routes.close_session, methods=["DELETE"]),
    Route("/v1/executions/{execution_id}", execution_routes.cancel_execution, methods=["DELETE"]),
    Route("/v1/files", file_routes.upload_file, methods=["POST"]),
    Route("/v1/files", file_routes.list_files),
    Route("/v1/files/{file_id}", file_routes.download_file),
    Route("/v1/files/{file_id}", file_routes.delete_file, methods=["DELETE"]),
]
"""The only paths. The name of a route's function is its label in logs and metrics."""


def create_metrics(settings: Settings) -> Metrics:
    """Made before the pool, which it observes."""
    return Metrics(max_in_flight=settings.in_flight, version=SERVICE_VERSION, backend=settings.executor_backend)


def create_service(
    settings: Settings,
    pool: SandboxPool,
    sessions: SandboxPool,
    store: FileStore,
    metrics: Metrics | None = None,
    tenants: Tenants | None = None,
) -> Service:
    """`sessions` is the pool that sessions are leased from.

    Raises `SettingsError` where there are to be keys and are none.
    """
    metrics = metrics or create_metrics(settings)
    metrics.registry.register(PoolCollector(pool.snapshot, lambda: store.quotas.used_bytes))
    metrics.registry.register(TenantFilesCollector(store.quotas.by_tenant, metrics.tenants.labels, prefix=PREFIX))
    loopback = has_loopback(pool.backend.isolation())
    held = Sessions(sessions, most=settings.max_sessions, loopback=loopback, metrics=metrics.sessions)
    return Service(settings, pool, store, metrics, tenants or open_tenants(settings), held)


def has_loopback(isolation: Isolation) -> bool:
    """May sessions have IP sockets?

    SECURITY: only where it is known that they lead nowhere: at level `none` they might be the host's own
    (tests/unit/test_loopback.py).
    """
    return isolation.level != "none" and isolation.network != "egress_unchecked"


def create_app(service: Service) -> ASGIApp:
    """The whole HTTP face. The pool is entered and left by the caller; the store is swept while this serves."""
    app = Starlette(routes=ROUTES, exception_handlers=_HANDLERS, middleware=_layers(service), lifespan=_lifespan)
    app.router.redirect_slashes = False
    app.state.service = service
    known = rules(
        service.settings.host, allowed_hosts=service.settings.allowed_hosts, cors_origins=service.settings.cors_origins
    )
    return Edge(app, rules=known, metrics=service.metrics, is_leaving=lambda: service.leaving)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    service: Service = app.state.service
    async with service.keyed.open(), anyio.create_task_group() as group:
        group.start_soon(sweep_forever, service.store, service.metrics.file)
        group.start_soon(service.sessions.run)
        group.start_soon(sweep_claims_forever, service.keyed.claims)
        group.start_soon(service.tenants.watch_forever)
        yield
        group.cancel_scope.cancel()


def _layers(service: Service) -> list[Middleware]:
    """The outermost first."""
    without_key = open_paths(service.settings)
    asks = Middleware(Authentication, tenants=service.tenants, open_paths=without_key, metrics=service.metrics)
    return [*_cors(service.settings), asks]


def _cors(settings: Settings) -> list[Middleware]:
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=tuple(origin.lower().rstrip("/") for origin in settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "X-API-Key",
                "X-Execution-Id",
                "X-Request-Id",
            ],
            expose_headers=[
                "Content-Disposition",
                "Retry-After",
                "Server-Timing",
                "WWW-Authenticate",
                "X-Execution-Id",
                "X-Request-Id",
            ],
        )
    ]


async def _on_error(_request: Request, error: Exception) -> Response:
    log_failure(error)
    return error_response(error)


async def _on_surprise(_request: Request, error: Exception) -> Response:
    """Starlette raises it again, to `Edge`, which logs it."""
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the router says: no such path, not that method."""
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
    body = {"detail": error.detail, "code": code, "retryable": False}
    headers = {"Allow": _allowed(request.scope["path"])} if error.status_code == 405 else error.headers
    return Response(
        msgspec.json.encode(body), status_code=error.status_code, headers=headers, media_type="application/json"
    )


def _allowed(path: str) -> str:
    """The router names the methods of the first route that has the path; there may be more."""
    return ", ".join(
        sorted({method for route in ROUTES if route.path_regex.match(path) for method in route.methods or ()})
    )


_HANDLERS = {
    HTTPException: _on_http_exception,
    errors.BrokerError: _on_error,
    PoolError: _on_error,
    SandboxError: _on_error,
    InputsRefused: _on_error,
    ProtocolError: _on_error,
    Exception: _on_surprise,
}
