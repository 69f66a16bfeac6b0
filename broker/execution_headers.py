"""What a request for a run says beside its body: its key, and the id of its execution. Pure, but for a new id."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers

from broker.errors import Unprocessable

_KEY = re.compile(r"[ -~]{1,255}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def idempotency_key(headers: Headers) -> str | None:
    """Raises `Unprocessable`."""
    given = _once(headers, "Idempotency-Key")
    if given is not None and not _KEY.fullmatch(given):
        raise Unprocessable("Idempotency-Key must be 1 to 255 printable ASCII characters.")
    return given


def execution_id(headers: Headers) -> str:
    """As given, in our spelling, or a new one. Raises `Unprocessable`."""
    given = _once(headers, "X-Execution-Id")
    if given is None:
        return str(uuid.uuid4())
    if not _UUID.fullmatch(given):
        raise Unprocessable("X-Execution-Id must be a UUID, as in 123e4567-e89b-12d3-a456-426614174000.")
    return given.lower()


def _once(headers: Headers, name: str) -> str | None:
    given = headers.getlist(name)
    if len(given) > 1:
        raise Unprocessable(f"{name} must be given once, not {len(given)} times.")
    return given[0] if given else None
