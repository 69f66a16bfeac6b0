"""One pool for each file of attacks, and after each attack the proof that it left nothing and harmed nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pool import RunLimits
from tests.hostile.aftermath import Estate, opened
from tests.sandboxes import Sandboxes


@pytest.fixture(scope="module")
def limits() -> RunLimits:
    """What the file's sandboxes may use; a file with smaller ones overrides it."""
    return RunLimits()


@pytest.fixture(scope="module")
def estate(limits: RunLimits) -> Iterator[Estate]:
    with opened(limits=limits) as estate:
        yield estate


@pytest.fixture
def boxes(estate: Estate) -> Iterator[Sandboxes]:
    """Sandboxes to attack. Afterwards the next program works, and nothing is left."""
    yield estate.boxes
    assert estate.boxes.run("print('alive')").stdout == "alive\n"
    assert estate.leftovers() == []
