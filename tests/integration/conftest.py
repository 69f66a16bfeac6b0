"""The service over HTTP. `service`: the same tests over every backend; `local`: for what only real programs show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.http_service import Running, running

MakeService = Callable[..., Running]


@pytest.fixture(scope="module", params=["fake", "local"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), request.param) as found:
        yield found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("local"), "local") as found:
        yield found


@pytest.fixture
def make_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeService]:
    """A service of one's own, over the fake backend unless another is named: `make_service(backend, **settings)`."""
    with ExitStack() as stack:

        def make(backend: Any = "fake", **changed: Any) -> Running:
            return stack.enter_context(running(tmp_path_factory.mktemp("service"), backend, **changed))

        yield make
