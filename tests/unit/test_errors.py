"""One table for every error that can reach a caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker import errors
from pool import (
    LocalProtocolError,
    PoolClosed,
    PoolError,
    PoolSaturated,
    PoolTimeout,
    ProtocolError,
    RemoteProtocolError,
    SandboxError,
    SandboxLost,
    SessionGone,
)

ROOTS = (errors.BrokerError, PoolError, ProtocolError, SandboxError)
# What the table says. Everything else follows from blame and cause.
STATUSES = {
    PoolSaturated: 429,
    PoolTimeout: 503,
    PoolClosed: 503,
    SessionGone: 404,
    SandboxLost: 502,
    LocalProtocolError: 500,
    RemoteProtocolError: 502,
    errors.SchemaError: 422,
    errors.Unprocessable: 422,
    errors.FileMissing: 404,
    errors.TooLarge: 413,
    errors.WrongContentType: 415,
    errors.StorageFull: 507,
    errors.ExecutionExists: 409,
    errors.ExecutionMissing: 404,
    errors.ExecutionCancelled: 409,
    errors.KeyReused: 422,
    errors.KeyInUse: 409,
    errors.OutcomeUnknown: 409,
    errors.Unauthenticated: 401,
    errors.RateLimited: 429,
    errors.SessionsFull: 429,
    errors.NoSessions: 403,
}


def family(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


EVERY = [each for root in ROOTS for each in family(root)]


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_has_a_row_of_its_own(kind: type[Exception]) -> None:
    assert kind in errors.TABLE


def test_codes_are_told_apart() -> None:
    codes = [kind.code for error, kind in errors.TABLE.items() if kind.code != "internal"]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_statuses_are_the_documented_ones(kind: type[Exception], status: int) -> None:
    assert errors.TABLE[kind].status == status


def test_nothing_is_retryable_where_a_program_may_have_run() -> None:
    ran = {
        errors.ExecutionCancelled,
        errors.OutcomeUnknown,
        SandboxLost,
        RemoteProtocolError,
        LocalProtocolError,
        SandboxError,
        ProtocolError,
    }
    assert [kind for kind in ran if errors.TABLE[kind].retryable] == []


def test_waiting_errors_say_when_to_come_back() -> None:
    full = errors.answer(PoolSaturated("8 waiting, limit 8", retry_after_seconds=2.2))
    assert (full.kind.status, full.retry_after_seconds, full.body["detail"]) == (429, 3, "8 waiting, limit 8")
    assert errors.answer(PoolTimeout("", retry_after_seconds=0)).retry_after_seconds == 1
    limited = errors.answer(errors.RateLimited("", retry_after_seconds=4.01))
    assert (limited.retry_after_seconds, limited.body["retryable"]) == (5, True)
    assert errors.answer(PoolClosed("closing")).retry_after_seconds == 1
    assert errors.answer(errors.KeyInUse("elsewhere", retry_after_seconds=0.1)).retry_after_seconds == 1
    assert errors.answer(errors.FileMissing("x")).retry_after_seconds is None


def test_who_shares_a_failure_is_told_what_the_first_one_was() -> None:
    first = errors.answer(SandboxLost("gone"))
    assert errors.answer(errors.SharedFailure(first)) == first


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), LocalProtocolError("secret"), KeyError("secret")])
def test_what_nobody_foresaw_is_not_quoted(error: Exception) -> None:
    found = errors.answer(error)
    assert (found.kind.status, found.detail) == (500, errors.INTERNAL)


def test_an_event_says_what_a_body_says() -> None:
    found = errors.answer(SandboxLost("gone"))
    assert found.event == {"message": "gone", "code": "sandbox_lost", "retryable": False}
    schema = errors.SchemaError("missing", ("body", "code"), "Field required")
    assert errors.answer(schema).event["message"] == "Field required"


def test_a_detail_has_an_end() -> None:
    assert len(str(errors.answer(SandboxLost("x" * 5000)).detail)) == errors.MAX_DETAIL_CHARS
