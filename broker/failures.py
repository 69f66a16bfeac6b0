"""Errors on their way to a log or a person: bare, and without what they quote."""

from __future__ import annotations

import structlog

from broker.errors import kind_of

_log = structlog.get_logger()
_PLACES_SHOWN = 6


def bare(error: BaseException) -> BaseException:
    """The error inside the groups that task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def log_failure(error: Exception) -> None:
    """Where it happened and what kind it is. Not what it says: that may quote a program or its output."""
    kind = kind_of(type(error))
    if kind.retryable:
        _log.warning("request.refused", error=type(error).__name__, code=kind.code)
    elif kind.status >= 500:
        _log.error("request.failed", error=type(error).__name__, code=kind.code, at=places(error))


def places(error: BaseException) -> list[str]:
    """File, line and function of the innermost frames."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-_PLACES_SHOWN:]
