"""What the broker refuses, and one table: class of error -> status, code, retryable. Pure.

Rule 1: `retryable` only where none of the caller's program can have run, and where the same request may
        succeed later. One exception, `KeyInUse`: the key of that request sees to it that it runs once.
Rule 2: a program that fails is no error. Its exit code, timeout or memory end is a result with 200.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from pool import (
    ChannelLost,
    InputsRefused,
    LocalProtocolError,
    PoolClosed,
    PoolError,
    PoolSaturated,
    PoolTimeout,
    ProtocolError,
    RemoteProtocolError,
    SandboxError,
    SandboxLost,
    SandboxStartFailed,
    SessionGone,
)

Loc = tuple[str | int, ...]


class BrokerError(Exception):
    """A request that is not run. Never raised itself."""


class SchemaError(BrokerError):
    """The body does not have the documented form: one entry, as FastAPI writes it."""

    def __init__(self, type: str, loc: Loc, msg: str, input: object = None) -> None:
        super().__init__(msg)
        self.entry = {"type": type, "loc": list(loc), "msg": msg, "input": input}


class Unprocessable(BrokerError):
    """The form is right, the content is not; the text says which rule."""


class FileMissing(BrokerError):
    """No such file, or no longer."""


class SessionMissing(BrokerError):
    """No such session, or no longer."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id[:256]}' not found")


class TooLarge(BrokerError):
    """A body or a file above its limit."""


class BodiesFull(BrokerError):
    """The bodies of all requests together are at their limit."""


class WrongContentType(BrokerError):
    """Not the content type that this path takes."""


class BadUpload(BrokerError):
    """A multipart body that cannot be read."""


class BodyStalled(BrokerError):
    """The client stopped sending in the middle of a body."""


class ForeignCaller(BrokerError):
    """A host name or a web origin that this address does not answer."""


class Unauthenticated(BrokerError):
    """No key, or none that is known. Nothing says which: only whether one was sent."""


class TenantLimited(BrokerError):
    """A limit of this tenant's own. Never raised itself."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RateLimited(TenantLimited):
    """More runs a minute than this tenant may start."""


class SessionsFull(TenantLimited):
    """As many sessions are open as may be: in all, or of this tenant."""


class NoSessions(BrokerError):
    """No sessions are opened here, or none for this tenant: the limit is 0."""


class StorageFull(BrokerError):
    """All stored files together, or those of one tenant, are at their quota."""


class StorageFailed(BrokerError):
    """The file store did not do as it should."""


class ClientGone(BrokerError):
    """The client closed the connection; nobody reads this answer."""


class ExecutionExists(BrokerError):
    """A run with this execution id is under way."""


class ExecutionMissing(BrokerError):
    """No run with this execution id is under way here."""


class ExecutionCancelled(BrokerError):
    """The run was ended because somebody asked for that, or because nobody wanted it any more."""


class KeyReused(BrokerError):
    """An idempotency key that came with another body before."""


class KeyInUse(BrokerError):
    """The run that this idempotency key belongs to is under way on another replica."""

    def __init__(self, text: str, retry_after_seconds: float) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(BrokerError):
    """The run that this idempotency key belongs to has begun, and nobody knows how it ended."""


class SharedFailure(BrokerError):
    """A run for which several callers wait, or waited, has failed: each is told the same `answer`."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.kind.code)
        self.answer = answer


class Kind(msgspec.Struct, frozen=True):
    status: int
    code: str
    retryable: bool = False


TABLE: Mapping[type[Exception], Kind] = {
    Exception: Kind(500, "internal"),
    BrokerError: Kind(500, "internal"),
    SchemaError: Kind(422, "invalid_request"),
    Unprocessable: Kind(422, "unprocessable"),
    FileMissing: Kind(404, "file_not_found"),
    SessionMissing: Kind(404, "session_not_found"),
    TooLarge: Kind(413, "too_large"),
    BodiesFull: Kind(503, "bodies_full", retryable=True),
    WrongContentType: Kind(415, "wrong_content_type"),
    BadUpload: Kind(422, "bad_upload"),
    BodyStalled: Kind(408, "body_stalled", retryable=True),
    ForeignCaller: Kind(403, "foreign_caller"),
    Unauthenticated: Kind(401, "unauthenticated"),
    TenantLimited: Kind(429, "tenant_limited", retryable=True),
    RateLimited: Kind(429, "rate_limited", retryable=True),
    SessionsFull: Kind(429, "sessions_full", retryable=True),
    NoSessions: Kind(403, "no_sessions"),
    StorageFull: Kind(507, "storage_full", retryable=True),
    StorageFailed: Kind(503, "storage_failed", retryable=True),
    ClientGone: Kind(499, "client_gone"),
    ExecutionExists: Kind(409, "execution_exists"),
    ExecutionMissing: Kind(404, "execution_not_found"),
    ExecutionCancelled: Kind(409, "execution_cancelled"),
    KeyReused: Kind(422, "key_reused"),
    KeyInUse: Kind(409, "key_in_use", retryable=True),
    OutcomeUnknown: Kind(409, "outcome_unknown"),
    SharedFailure: Kind(409, "shared_failure"),  # Never told: it has its answer with it.
    PoolError: Kind(503, "pool_failed", retryable=True),
    PoolClosed: Kind(503, "pool_closed", retryable=True),
    SessionGone: Kind(404, "session_gone"),
    PoolSaturated: Kind(429, "pool_saturated", retryable=True),
    PoolTimeout: Kind(503, "pool_timeout", retryable=True),
    ProtocolError: Kind(500, "internal"),
    LocalProtocolError: Kind(500, "internal"),
    RemoteProtocolError: Kind(502, "sandbox_misbehaved"),
    InputsRefused: Kind(422, "inputs_refused"),
    SandboxError: Kind(502, "sandbox_failed"),
    SandboxLost: Kind(502, "sandbox_lost"),
    ChannelLost: Kind(502, "channel_lost"),
    SandboxStartFailed: Kind(503, "sandbox_start_failed", retryable=True),
}

INTERNAL = "An error inside the service; its log has it under the X-Request-Id of this answer."
MAX_DETAIL_CHARS = 1024
# While closing or without storage there is no measured rate; a second is the least that the header can say.
_RETRY_AFTER_SECONDS = 1.0


class Answer(msgspec.Struct, frozen=True):
    """An error as the caller sees it: batch as status and body, in a stream as an event."""

    kind: Kind
    detail: str | list[dict[str, object]]
    retry_after_seconds: int | None

    @property
    def body(self) -> dict[str, object]:
        return {"detail": self.detail, "code": self.kind.code, "retryable": self.kind.retryable}

    @property
    def event(self) -> dict[str, object]:
        message = self.detail if isinstance(self.detail, str) else str(self.detail[0]["msg"])
        return {"message": message, "code": self.kind.code, "retryable": self.kind.retryable}


def kind_of(error: type[BaseException]) -> Kind:
    return next(TABLE[each] for each in error.__mro__ if each in TABLE)


def answer(error: Exception) -> Answer:
    if isinstance(error, SharedFailure):
        return error.answer
    kind = kind_of(type(error))
    return Answer(kind, _detail(error, kind), _retry_after(error, kind))


def _detail(error: Exception, kind: Kind) -> str | list[dict[str, object]]:
    if isinstance(error, SchemaError):
        return [error.entry]
    # SECURITY: what an unforeseen error says may quote a program, a path of ours or a secret.
    return INTERNAL if kind.code == "internal" else str(error)[:MAX_DETAIL_CHARS]


def _retry_after(error: Exception, kind: Kind) -> int | None:
    if isinstance(error, PoolSaturated | PoolTimeout | TenantLimited | KeyInUse):
        return max(1, math.ceil(error.retry_after_seconds))
    return math.ceil(_RETRY_AFTER_SECONDS) if kind.status == 503 else None
