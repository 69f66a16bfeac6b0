"""Each branch of the values: lint, golden render, and what a real API server says to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart import rendering
from tests.cluster.harness import Cluster

each_branch = pytest.mark.parametrize("branch", rendering.BRANCHES, ids=lambda branch: branch.stem)


@each_branch
def test_lint_has_nothing_to_say(branch: Path):
    done = rendering.lint(rendering.values_of(branch))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    # Under lint a refusal of ours is no error but a line on stderr.
    assert "Fail:" not in done.stderr


@each_branch
def test_golden_render(branch: Path):
    done = rendering.template(rendering.values_of(branch))
    assert done.returncode == 0, done.stderr
    # Another one is meant? Then `.venv/bin/python -m tests.chart.renew`, and read the diff.
    assert done.stdout == rendering.golden(branch).read_text()


def test_every_golden_render_has_its_branch():
    assert {path.name for path in (rendering.FOLDER / "golden").iterdir()} == {
        branch.name for branch in rendering.BRANCHES
    }


@pytest.fixture(scope="module")
def homes(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Namespaces that enforce Pod Security `restricted`, for the two that the branches name."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    with cluster.namespace(labels) as release, cluster.namespace(labels) as programs:
        yield {rendering.NAMESPACE: release, "programs": programs}


@each_branch
def test_a_real_api_server_accepts_it(branch: Path, cluster: Cluster, homes: dict[str, str]):
    objects = rendering.rendered(rendering.values_of(branch))
    # The kind of another project, whose definition this cluster does not have.
    known = [moved(item, homes) for item in objects if item["kind"] != "ServiceMonitor"]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": known})
    done = cluster.kubectl("apply", "--dry-run=server", "--warnings-as-errors", "-f", "-", input=listed)
    assert len(done.splitlines()) == len(known)


def moved(item: Any, homes: dict[str, str], key: str = "") -> Any:
    """The same objects in other namespaces."""
    if isinstance(item, dict):
        named = {"kind": "Namespace"}.items() <= item.items()
        return {
            name: {**value, "name": homes[value["name"]]} if named and name == "metadata" else moved(value, homes, name)
            for name, value in item.items()
        }
    if isinstance(item, list):
        return [moved(value, homes, key) for value in item]
    return homes.get(item, item) if key == "namespace" else item
