"""Request bodies: bounded in size, and in the time they may stand still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message as Header

import anyio
from starlette.requests import Request
from starlette.types import Message

from broker.errors import BodiesFull, BodyStalled, ClientGone, TooLarge, WrongContentType

# A client that sends nothing for so long is gone, or means to hold a connection open for nothing.
STALL_SECONDS = 30.0
# For a whole program: less cuts off slow lines; more lets a few that send a byte now and then hold the body budget.
JSON_SECONDS = 120.0


class BodyBudget:
    """What the bodies of all requests under way may hold of memory, and how much of it one tenant may.

    A tenant has at most half of what the others leave. So whoever comes finds something, however many are greedy: of
    the whole the first has a half at most, the next a quarter. Without keys everyone is one, and has all of it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._by_tenant: dict[str, int] = {}

    def take(self, tenant: str, size: int) -> None:
        """Negative gives back. Raises `BodiesFull`."""
        theirs = self._by_tenant.get(tenant, 0) + size
        if size > 0:
            self._check(tenant, theirs, self.held_bytes + size)
        self.held_bytes += size
        self._by_tenant[tenant] = theirs
        if not theirs:
            # Tenants come and go with their keys.
            del self._by_tenant[tenant]

    def _check(self, tenant: str, theirs: int, held: int) -> None:
        if held > self.limit_bytes:
            raise BodiesFull("The bodies of all requests together are at their limit; try again.")
        # SECURITY: one tenant's long programs, sent slowly, must not keep all others from being read
        # (tests/integration/test_http_tenants.py).
        others = held - theirs
        if tenant and 2 * theirs > self.limit_bytes - others:
            raise BodiesFull("The bodies of this tenant's requests are at its share of the limit; try again.")


class HeldBody:
    """One request's part of the budget, until `release`. The program in it is held as long as the request lasts."""

    def __init__(self, budget: BodyBudget, tenant: str = "") -> None:
        self._budget = budget
        self._tenant = tenant
        self._bytes = 0

    def take(self, size: int) -> None:
        """Raises `BodiesFull`."""
        self._budget.take(self._tenant, size)
        self._bytes += size

    def release(self) -> None:
        self._budget.take(self._tenant, -self._bytes)
        self._bytes = 0


async def read_json_body(request: Request, held: HeldBody, *, limit_bytes: int) -> bytearray:
    """The whole body. Raises `TooLarge` without having held more than the limit, `BodiesFull` or `BodyStalled`."""
    _require_json(request)
    if declared_bytes(request) > limit_bytes:
        raise TooLarge(_too_large(limit_bytes))
    with anyio.move_on_after(JSON_SECONDS):
        return await _whole(request, held, limit_bytes)
    raise BodyStalled(f"The request body was not complete after {JSON_SECONDS:.0f} s.")


async def _whole(request: Request, held: HeldBody, limit_bytes: int) -> bytearray:
    body = bytearray()
    async for piece in pieces(request):
        if len(body) + len(piece) > limit_bytes:
            raise TooLarge(_too_large(limit_bytes))
        held.take(len(piece))
        body += piece
    return body


def _too_large(limit_bytes: int) -> str:
    return f"Request body exceeds maximum of {limit_bytes // 2**20} MB"


def _require_json(request: Request) -> None:
    kind, charset = content_type(request)
    # SECURITY: a web page may post forms and plain text to any address without asking; JSON it may not.
    if kind != "application/json" or charset not in ("", "utf-8", "us-ascii"):
        raise WrongContentType("Content-Type must be application/json in UTF-8.")


def content_type(request: Request) -> tuple[str, str]:
    """Type and charset, in lower case."""
    header = Header()
    header["Content-Type"] = request.headers.get("content-type", "text/plain")
    return header.get_content_type(), str(header.get_param("charset", "")).lower()


def declared_bytes(request: Request) -> int:
    given = request.headers.get("content-length", "")
    return int(given) if given.isdecimal() and given.isascii() else 0


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `BodyStalled` or `ClientGone`."""
    more = True
    while more:
        message = await _next(request)
        if message["type"] == "http.disconnect":
            raise ClientGone("The client closed the connection in the middle of its request.")
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _next(request: Request) -> Message:
    try:
        with anyio.fail_after(STALL_SECONDS):
            return await request.receive()
    except TimeoutError:
        raise BodyStalled(f"No byte of the request body came for {STALL_SECONDS:.0f} s.") from None
