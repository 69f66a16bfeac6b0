"""schemathesis, which knows nothing but `/openapi.json`, finds no contradiction between it and a service that runs.

Each example is the same in each run. Programs are whatever text it makes up, in real sandboxes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.operations import OPERATIONS
from tests import source_tree as tree
from tests.http_service import Running, running
from tests.tenants import KEYS, key_file

EXAMPLES = 10
COMMAND = [sys.executable, "-m", "schemathesis.cli"]
OPTIONS = ["--generation-deterministic", "--no-shrink", "--no-color", "--request-timeout=30"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("outsider")
    with running(folder, "local", pool_size=4, max_sessions=4, keys_file=key_file(folder)) as found:
        found.client.headers["X-API-Key"] = KEYS["ana"]
        yield found


def looked_at(service: Running, folder: Path, document: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "keys.toml").write_text(f'[auth.openapi.apiKey]\napi_key = "{KEYS["ana"]}"\n')
    paths = os.pathsep.join([str(tree.ROOT), str(tree.ROOT / "sandbox-runtime")])
    return subprocess.run(
        [*COMMAND, "--config-file=keys.toml", "run", document, f"--url={service.url}", *OPTIONS, *options],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.property.outsiders_hooks", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def document_of(service: Running, folder: Path, **lies: Any) -> str:
    """A file of what the service says of itself, but for the bounds of `timeout_ms` that are given."""
    document = service.client.get("/openapi.json").json()
    document["components"]["schemas"]["ExecuteBody"]["properties"]["timeout_ms"].update(lies)
    (folder / "openapi.json").write_text(json.dumps(document))
    return "openapi.json"


def test_nothing_contradicts_the_document(service: Running, tmp_path: Path) -> None:
    phases = ["--phases=examples,coverage,fuzzing", f"--max-examples={EXAMPLES}"]
    found = looked_at(service, tmp_path, document_of(service, tmp_path), *phases)
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    assert f"Tested: {len(OPERATIONS)}" in found.stdout, found.stdout[-2000:]


def test_a_document_that_is_wrong_is_found_out(service: Running, tmp_path: Path) -> None:
    wrong = document_of(service, tmp_path, minimum=-1)
    found = looked_at(service, tmp_path, wrong, "--phases=coverage", "--include-name=POST /v1/execute")
    assert found.returncode == 1, found.stdout[-2000:] + found.stderr[-2000:]
    assert "Schema-valid request rejected" in found.stdout
