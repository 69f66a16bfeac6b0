"""What both clients need of httpx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from code_interpreter_client.calls import Call
from code_interpreter_client.errors import ServiceUnreachable


def request(http: httpx.Client | httpx.AsyncClient, call: Call[object], headers: Mapping[str, str]) -> httpx.Request:
    return http.build_request(
        call.method,
        call.path,
        json=call.json,
        files=None if call.upload is None else {"file": call.upload},
        headers={**headers, **call.headers},
        timeout=call.timeout_seconds,
    )


def key_headers(api_key: str | None) -> dict[str, str]:
    """Both of its headers: of an address with `user:password@` httpx makes an `Authorization` in place of ours."""
    return {"Authorization": f"Bearer {api_key}", "X-API-Key": api_key} if api_key else {}


@contextmanager
def heard() -> Iterator[None]:
    """What breaks on the way comes out as ours."""
    try:
        yield
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ServiceUnreachable(f"No whole answer from {_address(error)}: {reason}") from error


def _address(error: httpx.HTTPError) -> str:
    """Without a path, and without a password that may stand in it."""
    try:
        url = error.request.url
    except RuntimeError:  # it never came to a request
        return "the service"
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
