"""Pods of the images, as strict as Pod Security can ask for, and talk with a supervisor through `kubectl exec`."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sandbox_runtime import wire
from tests.cluster.harness import CACHE, Cluster, Manifest

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
WRITABLE = {"/workspace": "100Mi", "/tmp": "64Mi", "/dev/shm": "64Mi"}
MIB = 2**20
LIMITS = {
    "memory_bytes": 256 * MIB,
    "output_bytes": 1_000_000,
    "output_kill_bytes": 64 * MIB,
    "processes": 256,
    "open_files": 1024,
    "file_bytes": 100 * MIB,
    "workspace_bytes": 100 * MIB,
    "tmp_bytes": 64 * MIB,
    "shm_bytes": 64 * MIB,
    "inodes": 20_000,
    "returned_files": 1000,
    "returned_bytes": 200 * MIB,
    "cpu_millicores": 1000,
}
FACTS = {"limits": LIMITS, "preload": [], "preload_if_there": ["numpy", "pandas", "matplotlib"]}
START = "/opt/code-interpreter/start.py"
ZYGOTE = ["python3", START, "zygote", json.dumps(FACTS)]
SUPERVISOR = ["python3", "-I", "-S", START, "supervisor"]
PATIENCE_SECONDS = 30.0

Heard = list[tuple[str, wire.Message]]


def a_pod(namespace: str, name: str, image: str, **container: Any) -> Manifest:
    """Without an id: `runAsNonRoot` believes an image only that has a number of its own."""
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    mounts = [{"name": f"writable-{number}", "mountPath": place} for number, place in enumerate(WRITABLE)]
    volumes = [
        {"name": f"writable-{number}", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
        for number, size in enumerate(WRITABLE.values())
    ]
    only = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": security,
        "volumeMounts": mounts,
        "resources": {"limits": {"memory": "700Mi"}, "requests": {"cpu": "10m", "memory": "64Mi"}},
        **container,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [only],
        "volumes": volumes,
    }
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class RunningPod:
    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name

    def execute(self, *command: str) -> str:
        return self.cluster.kubectl("exec", "-n", self.namespace, self.name, "--", *command)

    @contextmanager
    def supervisor(self) -> Iterator[Supervisor]:
        found = shutil.which("kubectl", path=f"{CACHE / 'bin'}:{os.environ['PATH']}")
        assert found
        process = subprocess.Popen(
            [found, "exec", "-i", "-n", self.namespace, self.name, "--", *SUPERVISOR],
            env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            try:
                yield Supervisor(process)
            finally:
                process.kill()


@contextmanager
def running(cluster: Cluster, pod: Manifest) -> Iterator[RunningPod]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    cluster.apply(pod)
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "--timeout=60s", f"pod/{name}")
    yield RunningPod(cluster, namespace, name)  # the namespace's end is its end


class Outcome:
    """What became of a program."""

    def __init__(self, heard: Heard) -> None:
        self.messages = [message for _, message in heard]
        self.reason = next(each.reason for each in self.messages if isinstance(each, wire.Outcome))
        self.stdout = self._written("stdout")
        self.stderr = self._written("stderr")
        self.files = {each.path for each in self.messages if isinstance(each, wire.File)}

    def _written(self, stream: str) -> str:
        parts = [each.data for each in self.messages if isinstance(each, wire.Output) and each.stream == stream]
        return b"".join(parts).decode()


class Supervisor:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._reader, self._writer = wire.Reader(wire.FROM_SANDBOX), wire.Writer()
        [(_, hello)] = self._hear(lambda heard: bool(heard))
        assert isinstance(hello, wire.Hello)
        self.hello = hello

    def run(self, code: str, run: str = "1") -> Outcome:
        stage = wire.Stage(target="code", path="", data=code.encode(), last=True)
        asked = wire.Run(args=[], env={}, last_line_interactive=True, timeout_ms=20_000, collect_ms=2_000)
        assert self._process.stdin
        self._process.stdin.write(self._writer.line(stage, run) + self._writer.line(asked, run))
        self._process.stdin.flush()
        return Outcome(self._hear(lambda heard: any(isinstance(each, wire.Outcome) for _, each in heard)))

    def _hear(self, is_all: Callable[[Heard], bool]) -> Heard:
        assert self._process.stdout
        heard: Heard = []
        while not is_all(heard):
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_SECONDS)
            assert ready, f"it fell silent after {heard}"
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            assert data, f"it hung up after {heard}"
            heard += self._reader.feed(data)
        return heard
