"""`DELETE /v1/executions/{id}`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from broker.service import service_of
from broker.tenants import tenant_of


async def cancel_execution(request: Request) -> Response:
    caller = tenant_of(request).name
    await service_of(request).executions.cancel(caller, request.path_params["execution_id"].lower())
    return Response(status_code=204)
