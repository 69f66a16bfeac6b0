"""Nodes that are not there, simulated by kwok: for big namespaces, and beside a real node that is to fail."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.harness import Cluster

TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""So that the scheduler puts no pod that has to run on a node that does not."""


@contextmanager
def simulated_nodes(cluster: Cluster, count: int) -> Iterator[list[str]]:
    names = [f"simulated-{secrets.token_hex(3)}" for _ in range(count)]
    with cluster.started("kwok"):
        cluster.apply([node(name) for name in names])
        try:
            yield names
        finally:
            cluster.kubectl("delete", "node", *names)


def node(name: str) -> dict[str, Any]:
    room = {"cpu": "1k", "memory": "1Ti", "pods": "1k"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"type": "kwok"}},
        "spec": {"taints": [TAINT]},
        "status": {"allocatable": room, "capacity": room},
    }
