"""Logs: events with fields, on stderr. Never a program, its output, a file, or an error that quotes them."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

from broker.failures import places


def configure(level: str, form: Literal["auto", "json", "plain"]) -> None:
    """Our own events and those of the libraries go the same way."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(form)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _quiet_libraries()


def _rendering(form: str) -> list[Processor]:
    plain = form == "plain" or (form == "auto" and sys.stderr.isatty())
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if plain else structlog.processors.JSONRenderer()
    )
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_traceback, last]


def _without_traceback(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # A traceback's last line is what the error says, and that may quote what a client sent.
    error = event.pop("exc_info", None)
    if isinstance(error, tuple) and error[1] is not None:
        event["error"], event["at"] = type(error[1]).__name__, places(error[1])
    return event


def _quiet_libraries() -> None:
    # uvicorn tells of every start and stop on its own; `server` does that in our words.
    for name in ("uvicorn.error", "uvicorn.access", "asyncio", "python_multipart", "python_multipart.multipart"):
        logging.getLogger(name).setLevel(logging.WARNING)
