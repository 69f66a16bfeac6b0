"""`/openapi.json` and `/docs`: the contract, for machines and for people."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response


async def openapi(_request: Request) -> Response:
    return JSONResponse({})


async def docs(_request: Request) -> Response:
    return HTMLResponse("")
