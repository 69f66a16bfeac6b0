"""Both images: built from this tree and loaded into the cluster, or those that it can pull."""

from __future__ import annotations

import os

import pytest

from tests.cluster.harness import Cluster
from tests.images.building import Images, built_and_loaded

__all__ = ["images"]

VARIABLE = "CODE_INTERPRETER_TEST_IMAGES"
"""Two names, of the service's image and the executor's, for a cluster that is not ours: it can be given no others."""


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """`.service` and `.executor` are names for pods, with `imagePullPolicy: IfNotPresent`.

    The first build takes a minute; one of the same files, seconds.
    """
    if cluster.is_ours:
        return built_and_loaded(cluster)
    names = os.environ.get(VARIABLE, "").split(",")
    if len(names) != len(Images._fields):
        pytest.skip(f"{VARIABLE}=SERVICE,EXECUTOR must name images of this tree that the cluster can pull")
    return Images(*names)
