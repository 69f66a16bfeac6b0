"""For all tests: what a skip means, and the cluster with its images, which a session starts once.

A machine that cannot run a test skips it, with a reason. In CI such a skip is a failure, unless its reason
is one of those that the project allows itself: there is nothing else to hold the promise by.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

from tests.cluster.fixtures import cluster
from tests.images.fixtures import images
from tests.integration import residue

__all__ = ["cluster", "images"]

ALLOWED_IN_CI = (
    "this machine gives no ",  # no memory controller in cgroup.controllers: v2 is held by recorded file trees
    "this kernel has no Landlock",
    "aarch64 at run time",
    "gVisor",
    "Kata",
    "macOS",
    "GCS",
    "Azure",
)


def pytest_configure() -> None:
    # What a script starts in its background ignores ^C, and so does all that this starts in turn: tests press it
    # (tests/integration/test_command_line.py).
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(residue.COUNTS, []):
        terminalreporter.write_line(f"residue: {line}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = _reason(report)
        if not any(allowed in reason for allowed in ALLOWED_IN_CI):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, and its reason is not one of those allowed (tests/conftest.py): {reason}"
    return report


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
