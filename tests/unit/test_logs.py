"""Logs are events with fields, and never quote an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from broker.logs import configure


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_events_and_library_messages_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    structlog.get_logger().info("request", route="execute")
    logging.getLogger("some.library").warning("hm")
    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["event"], ours["route"], ours["level"], "timestamp" in ours) == ("request", "execute", "info", True)
    assert (theirs["event"], theirs["level"]) == ("hm", "warning")


def test_an_exceptions_words_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    try:
        raise ValueError("secret program")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    logged = capsys.readouterr().err
    assert "secret" not in logged
    assert json.loads(logged)["error"] == "ValueError"


def test_levels_hold(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "plain")
    structlog.get_logger().info("request")
    structlog.get_logger().warning("sandbox.start_failed")
    logged = capsys.readouterr().err
    assert "request" not in logged
    assert "sandbox.start_failed" in logged
