"""What both clients need of httpx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from code_interpreter_client.calls import Call
from code_interpreter_client.errors import ServiceUnreachable


def request(http: httpx.Client | httpx.AsyncClient, call: Call, headers: Mapping[str, str]) -> httpx.Request:
    return http.build_request(
        call.method,
        call.path,
        json=call.json,
        files=None if call.upload is None else {"file": call.upload},
        headers={**headers, **call.headers},
        timeout=call.timeout_seconds,
    )


@contextmanager
def heard() -> Iterator[None]:
    """What breaks on the way comes out as ours."""
    try:
        yield
    except httpx.HTTPError as error:
        raise ServiceUnreachable(str(error) or type(error).__name__) from error
