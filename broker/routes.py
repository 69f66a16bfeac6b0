"""What machines ask: is it alive, may it be sent work, what does it count. From memory, whatever the load."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from broker.metrics import CONTENT_TYPE
from broker.service import API_LEVEL, API_LEVEL_WITHOUT_SESSIONS, COLD_SECONDS, service_of
from broker.tenants import tenant_of
from broker.version import SERVICE_VERSION
from pool import Isolation, Snapshot


async def health(request: Request) -> Response:
    service = service_of(request)
    backend, trouble = service.settings.executor_backend, service.trouble
    has_sessions = service.settings.max_sessions > 0
    now, isolation = service.pool.snapshot(), service.isolation
    body = health_body(now, isolation, backend, trouble=trouble, has_sessions=has_sessions)
    return Response(msgspec.json.encode(body), media_type="application/json")


def health_body(
    now: Snapshot, isolation: Isolation, backend: str, *, trouble: str | None = None, has_sessions: bool = True
) -> dict[str, object]:
    """An empty pool is busy, not ill: `error` takes a minute without a warm sandbox and a reason for it.

    `trouble` is said beside an `ok`: what an operator must see to, and nobody's programs suffer from yet.
    """
    ill = now.hold_text is not None and now.cold_seconds > COLD_SECONDS
    return {
        "status": "error" if ill else "ok",
        "message": now.hold_text if ill else trouble,
        "version": API_LEVEL if has_sessions else API_LEVEL_WITHOUT_SESSIONS,
        "service_version": SERVICE_VERSION,
        "executor_backend": backend,
        "network_isolation": "none" if isolation.level == "none" else isolation.network,
        "isolation": isolation.level,
        "isolation_missing": isolation.missing,
        "pool": now,
    }


async def ready(request: Request) -> Response:
    service = service_of(request)
    detail = not_ready(service.pool.snapshot(), leaving=service.leaving)
    body = {"ready": detail is None, "detail": detail, "hold": service.pool.snapshot().hold_text}
    return Response(msgspec.json.encode(body), status_code=503 if detail else 200, media_type="application/json")


def not_ready(now: Snapshot, *, leaving: bool) -> str | None:
    """Why no work should be sent here, or None. A hold is no reason: what is running goes on, and it may end soon."""
    if leaving or now.closing:
        return "Shutting down."
    return None if now.has_been_warm else f"No sandbox has been warm yet, after {now.cold_seconds:.1f} s."


async def metrics(request: Request) -> Response:
    service = service_of(request)
    # SECURITY: what others run, and how much, is none of a tenant's business (tests/integration/test_http_tenants.py).
    sees_all = service.settings.metrics_public or tenant_of(request).sees_all_metrics
    text = service.metrics.text(None if sees_all else tenant_of(request).name)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})
