"""The outermost layer: request ids, who may call, timings, one log line, and no exception past it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker import errors
from broker.callers import CallerRules, refusal
from broker.failures import log_failure
from broker.metrics import Metrics
from broker.schemas import TimingsMs
from broker.tenants import TENANT

_log = structlog.get_logger()

# What may come back in a header and go into logs: visible ASCII, not long.
_REQUEST_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
QUIET = frozenset({"health", "ready", "metrics"})
"""Asked every few seconds by machines: logged at debug."""
TIMINGS = "broker.timings"
EXECUTION_ID = "broker.execution_id"
CHALLENGE = 'Bearer realm="code-interpreter"'
"""What a 401 must say (RFC 9110, 15.5.2)."""


class Edge:
    """Pure ASGI: a stream passes through it unbuffered."""

    def __init__(self, app: ASGIApp, *, rules: CallerRules, metrics: Metrics, is_leaving: Callable[[], bool]) -> None:
        self._app = app
        self._rules = rules
        self._metrics = metrics
        self._is_leaving = is_leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        exchange = Exchange(scope, send, self._is_leaving)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            await self._answer(exchange, scope, receive)
            self._record(exchange, scope)

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        try:
            headers = Headers(scope=scope)
            reason = refusal(self._rules, host=headers.get("host", ""), origin=headers.get("origin"))
            if reason is not None:
                return await error_response(errors.ForeignCaller(reason))(scope, receive, exchange.send)
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            # The layers below have answered it where that was still possible; this is for what they could not.
            if not isinstance(error, errors.BrokerError):
                log_failure(error)
            if exchange.status == 0:
                await error_response(error)(scope, receive, exchange.send)

    def _record(self, exchange: Exchange, scope: Scope) -> None:
        route = getattr(scope.get("endpoint"), "__name__", "unmatched")
        seconds = time.perf_counter() - exchange.began
        self._metrics.answered(method=scope["method"], route=route, status=exchange.status, seconds=seconds)
        tenant = getattr(scope.get(TENANT), "name", "")
        level = "debug" if route in QUIET else "info"
        getattr(_log, level)(
            "request",
            method=scope["method"],
            route=route,
            status=exchange.status,
            duration_ms=round(seconds * 1000, 1),
            **({"tenant": tenant} if tenant else {}),
        )


class Exchange:
    """One request and its answer, as far as the edge cares."""

    def __init__(self, scope: Scope, send: Send, is_leaving: Callable[[], bool]) -> None:
        self.began = time.perf_counter()
        self.status = 0
        self.request_id = request_id(Headers(scope=scope).get("x-request-id", ""))
        self._scope = scope
        self._send = send
        self._is_leaving = is_leaving

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers()]
        await self._send(message)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        timings: TimingsMs | None = self._scope.get(TIMINGS)
        phases = (
            [] if timings is None else [f"{name};dur={ms:.3f}" for name, ms in msgspec.structs.asdict(timings).items()]
        )
        total = f"total;dur={(time.perf_counter() - self.began) * 1000:.3f}"
        headers = {"X-Request-Id": self.request_id, "Server-Timing": ", ".join([*phases, total])}
        if EXECUTION_ID in self._scope:
            headers["X-Execution-Id"] = self._scope[EXECUTION_ID]
        # A client that keeps its connection would go on asking a service that is about to refuse.
        return raw_headers({**headers, "Connection": "close"} if self._is_leaving() else headers)


def request_id(given: str) -> str:
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def add_timings(request: Request, timings: TimingsMs) -> None:
    """They go out as `Server-Timing`."""
    request.scope[TIMINGS] = timings


def add_execution_id(request: Request, execution_id: str) -> None:
    """It goes out as `X-Execution-Id`, whatever the answer is."""
    request.scope[EXECUTION_ID] = execution_id


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def error_response(error: Exception) -> Response:
    answer = errors.answer(error)
    headers = {} if answer.retry_after_seconds is None else {"Retry-After": str(answer.retry_after_seconds)}
    if answer.kind.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    return Response(
        msgspec.json.encode(answer.body), status_code=answer.kind.status, headers=headers, media_type="application/json"
    )
