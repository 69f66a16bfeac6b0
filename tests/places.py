"""Where the contract's sandboxes are: in processes of this machine, and in pods of the test cluster.

A `place` opens pools. Tests ask for one (or for fixtures made from one) and run once for each; the id shows which. A
pod takes a second and a half to come, so programs share pods that are cleaned between two, but for a few tests.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol
from unittest import mock

import pytest
from anyio.from_thread import start_blocking_portal

from pool import RunLimits
from pool.kube import backend
from tests.cluster.harness import VARIABLE, Cluster
from tests.images.building import Images
from tests.kube.support.pods import full, kube_pool, restricted_namespace
from tests.sandboxes import Sandboxes, plan, sandboxes

__all__ = ["place", "pods_namespace"]

LOCAL, PODS, PODS_FOR_ONE_RUN = "local", "kubernetes", "kubernetes-single-use"

USES = {
    PODS: {"size": 1, "max_runs_per_sandbox": 2000},
    PODS_FOR_ONE_RUN: {"size": 3, "max_runs_per_sandbox": 1},
}
"""Settings of the pools. With one pod that is used again, what comes after an attack runs where the attack was."""


class Place(Protocol):
    name: str

    def sandboxes(
        self, *, preload: Sequence[str] = (), limits: RunLimits | None = None, left_out: Sequence[str] = ()
    ) -> AbstractContextManager[Sandboxes]:
        """A pool for as long as the context is open."""


class ThisMachine:
    name = LOCAL

    def sandboxes(
        self, *, preload: Sequence[str] = (), limits: RunLimits | None = None, left_out: Sequence[str] = ()
    ) -> AbstractContextManager[Sandboxes]:
        return sandboxes(plan(preload=preload, limits=limits, left_out=left_out))


class PodsOfACluster:
    def __init__(self, name: str, cluster: Cluster, images: Images, namespace: str) -> None:
        self.name = name
        self._home = (cluster, images, namespace)

    @contextmanager
    def sandboxes(
        self, *, preload: Sequence[str] = (), limits: RunLimits | None = None, left_out: Sequence[str] = ()
    ) -> Iterator[Sandboxes]:
        pool = kube_pool(
            *self._home, settings=USES[self.name], limits=limits, preload_if_there=preload, left_out=left_out
        )
        # A pod that lacks a step is refused, by the pool that is to try what happens without it too.
        required = tuple(step for step in backend.REQUIRED if step not in left_out)
        with (
            mock.patch.object(backend, "REQUIRED", required),
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(pool) as opened,
        ):
            portal.call(full, opened)
            yield Sandboxes(opened, portal)


@pytest.fixture(scope="session")
def pods_namespace(cluster: Cluster) -> Iterator[str]:
    """One for all pools: what one of them hands over at its end, the next one takes."""
    with restricted_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == LOCAL:
        return ThisMachine()
    cluster, images, namespace = map(request.getfixturevalue, ("cluster", "images", "pods_namespace"))
    return PodsOfACluster(request.param, cluster, images, namespace)


def parametrize(
    metafunc: pytest.Metafunc,
    *,
    local_only: Mapping[str, str],
    pods_only: Collection[str] = (),
    for_one_run_too: Collection[str] = (),
) -> None:
    """For a conftest's `pytest_generate_tests`: files and tests by name. `local_only` says why, too."""
    if "place" not in metafunc.fixturenames:
        return
    names = {metafunc.module.__name__.rpartition(".")[2], metafunc.function.__name__}
    found = [] if names & set(pods_only) else [LOCAL]
    if not names & set(local_only) and not _is_second_pass():
        found += [PODS, *([PODS_FOR_ONE_RUN] if names & set(for_one_run_too) else [])]
    marked = [name if name == LOCAL else pytest.param(name, marks=pytest.mark.cluster) for name in found]
    metafunc.parametrize("place", marked, indirect=True, scope="module")


def left_to_the_first_pass(items: list[pytest.Item], pods_only: Collection[str]) -> list[pytest.Item]:
    """Those that have no place at all in a pass without pods."""
    return [item for item in items if _is_second_pass() and getattr(item, "originalname", None) in pods_only]


def _is_second_pass() -> bool:
    """CI runs these tests a second time as an ordinary user: of pods there is nothing new to learn from that."""
    return os.environ.get("CI") == "true" and os.geteuid() != 0 and os.environ.get(VARIABLE) != "kubeconfig"
