"""The layer that asks for a key. Within CORS, which answers preflights, and those never carry one."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.edge import error_response
from broker.errors import Unauthenticated
from broker.metrics import Metrics
from broker.operations import OPEN_PATHS
from broker.settings import Settings
from broker.tenants import TENANT, Tenants


def open_paths(settings: Settings) -> frozenset[str]:
    """Those that need no key."""
    return OPEN_PATHS | {"/metrics"} if settings.metrics_public else OPEN_PATHS


class Authentication:
    """Pure ASGI: whatever is routed behind it has a tenant."""

    def __init__(self, app: ASGIApp, *, tenants: Tenants, open_paths: Collection[str], metrics: Metrics) -> None:
        self._app = app
        self._tenants = tenants
        self._open_paths = open_paths
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # SECURITY: the list is of what is open, compared to the letter: a path that is spelled in another way, or added
        # later, needs a key (tests/integration/test_http_keys.py).
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            try:
                scope[TENANT] = self._tenants.of_key(key_in(Headers(scope=scope)))
            except Unauthenticated as error:
                self._metrics.tenants.unauthenticated()
                return await error_response(error)(scope, receive, send)
        await self._app(scope, receive, send)


def key_in(headers: Headers) -> str | None:
    """The key as it was sent. What stands in `Authorization` may be a gateway's own, even as Bearer."""
    if key := headers.get("x-api-key", "").strip():
        return key
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    return rest.strip() or None if scheme.lower() == "bearer" else None
