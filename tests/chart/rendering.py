"""The chart through helm: lint, render, notes."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.source_tree import ROOT

CHART = ROOT / "deploy" / "helm" / "code-interpreter"
FOLDER = Path(__file__).parent
BRANCHES = sorted((FOLDER / "values").glob("*.yaml"))
RELEASE, NAMESPACE = "code-interpreter", "agents"

# The sessions' secret: another one in each render.
MADE_BY_CHANCE = re.compile(r"(^data:\n  secret: )\S+", re.MULTILINE)

Object = dict[str, Any]


def loaded(text: str) -> Any:
    """YAML as data."""
    return yaml.safe_load(text)


def golden(branch: Path) -> Path:
    return FOLDER / "golden" / branch.name


def values_of(branch: Path) -> list[str]:
    return ["--values", str(branch)]


def sets(*settings: str) -> list[str]:
    """`path=value`, where the value is YAML."""
    pairs = [setting.partition("=") for setting in settings]
    return [word for path, _, text in pairs for word in ("--set-json", f"{path}={json.dumps(loaded(text))}")]


@functools.cache
def helm_path() -> str | None:
    cache = Path(os.environ.get("CLUSTER_CACHE") or Path.home() / ".cache" / "testcluster")
    return shutil.which("helm") or shutil.which("helm", path=str(cache / "bin"))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = helm_path()
    if path is None:
        pytest.skip("there is no helm on PATH; CODE_INTERPRETER_TEST_CLUSTER=build builds one with the cluster")
    # No cluster is asked for anything: one that happens to be configured must not change a render.
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, env=environment)


def lint(arguments: Sequence[str] = (), chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    return helm("lint", "--strict", str(chart), *arguments)


def template(
    arguments: Sequence[str] = (), *, chart: Path = CHART, release: str = RELEASE, namespace: str = NAMESPACE
) -> subprocess.CompletedProcess[str]:
    done = helm("template", release, str(chart), "--namespace", namespace, *arguments)
    done.stdout = MADE_BY_CHANCE.sub(r"\1bWFkZSBieSBjaGFuY2U=", done.stdout)
    return done


def rendered(arguments: Sequence[str] = (), *, chart: Path = CHART, namespace: str = NAMESPACE) -> list[Object]:
    done = template(arguments, chart=chart, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def the(objects: list[Object], kind: str, name: str = "") -> Object:
    """The only object of that kind, or the one of that name."""
    found = [item for item in objects if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[item['metadata']['name'] for item in found]}"
    return found[0]


def pod_spec(objects: list[Object]) -> Any:
    return the(objects, "Deployment")["spec"]["template"]["spec"]


def container(objects: list[Object]) -> Any:
    [only] = pod_spec(objects)["containers"]
    return only


def variables(objects: list[Object]) -> dict[str, str]:
    """Of the service, those with a value in place."""
    return {entry["name"]: entry["value"] for entry in container(objects)["env"] if "value" in entry}


def executor_file(objects: list[Object]) -> Any:
    maps = [item for item in objects if item["kind"] == "ConfigMap" and "executor.json" in (item.get("data") or {})]
    [only] = maps
    return json.loads(only["data"]["executor.json"])


def notes(arguments: Sequence[str], folder: Path) -> str:
    """What `helm install` prints. `helm template` does not, so a copy of the chart has it as the data of an object."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    text = (chart / "templates" / "NOTES.txt").read_text()
    printed = '{{ define "test.notes" }}' + text + "{{ end }}\n"
    kept = 'kind: Notes\nmetadata: {name: notes}\ntext: |\n  {{- include "test.notes" . | nindent 2 }}\n'
    (chart / "templates" / "printed.yaml").write_text(printed + kept)
    return str(the(rendered(arguments, chart=chart), "Notes")["text"])
