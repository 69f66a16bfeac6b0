"""Two replicas that share their sessions: a pair for a module, or an estate of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster
from tests.images.building import Images
from tests.kube.support.replicas import Estate, Replica, estate

Pair = tuple[Replica, Replica]


@pytest.fixture(scope="module")
def shared(cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with estate(cluster, images, tmp_path_factory.mktemp("replicas")) as found:
        yield found


@pytest.fixture(scope="module")
def pair(shared: Estate) -> Iterator[Pair]:
    with shared.replica("one") as one, shared.replica("two") as two:
        one.ready()
        two.ready()
        yield one, two


@pytest.fixture
def own(cluster: Cluster, images: Images, tmp_path: Path) -> Iterator[Estate]:
    with estate(cluster, images, tmp_path) as found:
        yield found
