"""What a sandbox does with a program is the same wherever it is; what one says on the wire is heard on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import places
from tests.contract.calling import LIMITS, Calling, opened
from tests.contract.dialogue import Speaking, speaking
from tests.places import place, pods_namespace

__all__ = ["place", "pods_namespace"]

LOCAL_ONLY = {
    "test_supervisor": "its broker holds the socket itself, and looks at processes from outside",
    "test_supervisor_fuzz": "the same",
    "test_slow_reader": "the same",
    "test_recycling": "the same",
    "test_session": "the same",
    "test_golden_frames": "frames alone, and no sandbox",
    "test_other_pythons": "runs Pythons of this machine, without a sandbox",
}
"""Files that pods are left out of, with the reason. (None of them asks for a place.)"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    places.parametrize(metafunc, local_only=LOCAL_ONLY)


@pytest.fixture(scope="module")
def broker() -> Iterator[Speaking]:
    """One that tells a zygote of this machine what to start."""
    with speaking(LIMITS) as speaks:
        yield speaks


@pytest.fixture
def session(broker: Speaking) -> Iterator[Calling]:
    """A sandbox of its own that has become a session."""
    with opened(broker) as session:
        yield session
