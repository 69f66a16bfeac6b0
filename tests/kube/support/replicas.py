"""Replicas of the service as they are run: processes with settings, the chart's rights, and HTTP.

They share a namespace, a folder of files, keys and, unless they are told otherwise, the sessions' secret.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.harness import Cluster, eventually
from tests.images.building import Images
from tests.kube.support.accounts import ANCHOR, chart_account
from tests.kube.support.pods import POOL, restricted_namespace
from tests.source_tree import ROOT
from tests.tenants import client_of, key_file

START_SECONDS, LEAVE_SECONDS = 60.0, 30.0
WORKSPACE_MB = 64


class Estate:
    """What replicas have in common."""

    def __init__(self, cluster: Cluster, images: Images, namespace: str, folder: Path) -> None:
        self.cluster, self.namespace, self.folder = cluster, namespace, folder
        wishes = {
            "namespace": namespace,
            "image": images.executor,
            "pool": POOL,
            "anchor": ANCHOR,
            "egressCheck": {"mode": "off"},
        }
        (folder / "executor.json").write_text(json.dumps(wishes))
        (folder / "secret").write_text(secrets.token_hex(32))
        self._given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'sandbox-runtime'}",
            "EXECUTOR_BACKEND": "kubernetes",
            "PORT": "0",
            "BROKER_EXECUTOR_FILE": str(folder / "executor.json"),
            "BROKER_KUBECONFIG": str(chart_account(cluster, namespace, folder)),
            "BROKER_SESSION_SECRET_FILE": str(folder / "secret"),
            "BROKER_KEYS_FILE": key_file(folder, ana={"sessions": 2}),
            "FILE_STORAGE_DIR": str(folder / "files"),
            "BROKER_POOL_SIZE": "1",
            "BROKER_SESSION_WORKSPACE_MB": str(WORKSPACE_MB),
            "BROKER_LEAVE_SECONDS": "0",
            "BROKER_PRELOAD": "none",
        }

    @contextmanager
    def replica(self, name: str, **changed: str) -> Iterator[Replica]:
        """One that serves; ended as an operator would, if it has not been before. An empty variable is none."""
        environment = {**self._given, "BROKER_POD_NAME": name, **changed}
        command = [sys.executable, "-m", "broker", "serve"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                words = process.stdout.readline().split()
                assert words[:1] == ["Serving"], words
                with ExitStack() as stack:
                    yield Replica(process, words[1], stack)
            finally:
                process.kill()

    def session_pods(self) -> list[Any]:
        """Those that are not about to go."""
        found = self.cluster.get("pods", "-n", self.namespace, "-l", "code-interpreter/session")["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def pods(self, owner: str) -> list[Any]:
        """Of a replica, by the beginning of its name."""
        found = self.cluster.get("pods", "-n", self.namespace)["items"]
        return [each for each in found if each["metadata"]["labels"]["code-interpreter/owner"].startswith(owner)]


class Replica:
    """A process that serves, and clients of it."""

    def __init__(self, process: subprocess.Popen[str], url: str, stack: ExitStack) -> None:
        self.url, self._process = url, process
        self.ana, self.bob = (stack.enter_context(client_of(url, name)) for name in ("ana", "bob"))

    def open(self, client: httpx.Client | None = None, **fields: Any) -> str:
        answer = (client or self.bob).post("/v1/sessions", json=fields)
        assert answer.status_code == 201, answer.text
        session_id: str = answer.json()["session_id"]
        return session_id

    def ask(self, session_id: str, cmd: str, client: httpx.Client | None = None, **fields: Any) -> httpx.Response:
        return (client or self.bob).post(f"/v1/sessions/{session_id}/bash", json={"cmd": cmd, **fields})

    def bash(self, session_id: str, cmd: str, **fields: Any) -> str:
        answer = self.ask(session_id, cmd, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["exit_code"] == 0, answer.text
        stdout: str = answer.json()["stdout"]
        return stdout

    def close(self, session_id: str, client: httpx.Client | None = None) -> int:
        return (client or self.bob).delete(f"/v1/sessions/{session_id}").status_code

    def ready(self) -> None:
        eventually(lambda: httpx.get(f"{self.url}/ready", trust_env=False).status_code == 200, START_SECONDS)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """As a roll-out does."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(LEAVE_SECONDS) == 0


@contextmanager
def estate(cluster: Cluster, images: Images, folder: Path) -> Iterator[Estate]:
    with restricted_namespace(cluster) as namespace:
        yield Estate(cluster, images, namespace, folder)
