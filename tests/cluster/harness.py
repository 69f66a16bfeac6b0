"""A real cluster for tests: the one of `tests/cluster/cluster`, or the one that KUBECONFIG names."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "CODE_INTERPRETER_TEST_CLUSTER"
SCRIPT = Path(__file__).with_name("cluster")
CACHE = Path(os.environ.get("CLUSTER_CACHE") or Path.home() / ".cache/testcluster")
STATE = Path(os.environ.get("CLUSTER_STATE") or "/var/lib/testcluster")
BASE_IMAGE = "localhost/debian-python:bookworm"
CHOICES = "`build` (build and start one; root, Debian and Go) or `kubeconfig` (use the one that KUBECONFIG names)"
READY_SECONDS = 60.0

Manifest = Mapping[str, Any]


class CommandFailed(Exception):
    """A program said no; its standard error says why."""


class Cluster:
    """Somewhere to make pods. What breaks components or reads the audit log needs a cluster of ours: `require_ours`."""

    def __init__(self, kubeconfig: Path, is_ours: bool, was_started: bool = False) -> None:
        self.kubeconfig = kubeconfig
        self.is_ours = is_ours
        self.was_started = was_started  # by this session, which then ends it

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        return self._run("kubectl", *arguments, input=input, timeout=timeout)

    def helm(self, *arguments: str, timeout: float = 300) -> str:
        return self._run("helm", *arguments, timeout=timeout)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, manifest: Manifest | Sequence[Manifest]) -> None:
        items = [manifest] if isinstance(manifest, Mapping) else list(manifest)
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    @contextmanager
    def namespace(self, labels: Mapping[str, str] | None = None) -> Iterator[str]:
        """A namespace of one's own; at the end its pods are gone, and it follows them within seconds."""
        name = f"test-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            # No pod can be made before.
            self.kubectl("wait", "--for=create", "--timeout=30s", "-n", name, "serviceaccount/default")
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")
            # Left to the namespace, a pod that does not heed SIGTERM would take half a minute.
            self.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=1", "--timeout=90s")

    def require_ours(self, purpose: str) -> None:
        if not self.is_ours:
            pytest.skip(f"{purpose} needs a cluster of our own: {VARIABLE}=build")

    @property
    def audit_log(self) -> Path:
        """Who asked the API server for what: a JSON object a line, a moment after the answer."""
        self.require_ours("reading the audit log")
        return STATE / "log/audit.log"

    def stop(self, component: str, signal: str = "KILL") -> None:
        self.require_ours("stopping a component")
        script("stop", component, signal)

    def start(self, component: str, **environment: str) -> None:
        self.require_ours("starting a component")
        script("start", component, **environment)

    @contextmanager
    def started(self, component: str, **environment: str) -> Iterator[None]:
        """Run one of the components that are not there by themselves: `enforcer`, `kwok`."""
        self.start(component, **environment)
        try:
            yield
        finally:
            self.stop(component)

    @contextmanager
    def stopped(self, component: str, signal: str = "KILL") -> Iterator[None]:
        """Do without a component for a while; at the end the cluster is whole again."""
        self.stop(component, signal)
        try:
            yield
        finally:
            self.start(component)
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            return succeeds(self.kubectl, "wait", "--for=condition=Ready", "node", "--all", "--timeout=5s", timeout=20)

        eventually(is_ready, READY_SECONDS)

    def load_image(self, archive: Path) -> None:
        """Import an OCI archive into the node; pods then use its name with `imagePullPolicy: IfNotPresent`."""
        self.require_ours("loading an image from a file")
        script("load", str(archive))

    def close(self) -> None:
        if self.was_started:
            script("down")
            self.was_started = False

    def _run(self, program: str, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        path = _program(program)
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return _output([path, *arguments], environment, input, timeout)


def cluster_or_skip() -> Cluster:
    """Return the session's cluster, started if need be; without one that the environment asks for, skip."""
    wanted = os.environ.get(VARIABLE) or ("build" if os.environ.get("CI") == "true" else "")
    match wanted:
        case "kubeconfig":
            return _named()
        case "build":
            if reason := _cannot_build():
                pytest.skip(f"{VARIABLE}=build: {reason}")
            return _ours()
        case "":
            pytest.skip(f"there is no cluster to test on; set {VARIABLE} to {CHOICES}")
        case _:
            pytest.fail(f"{VARIABLE} is {wanted!r}; it may be {CHOICES}")


def base_image() -> Path:
    """Return the archive of BASE_IMAGE (Debian with Python and pip), built if need be; others can build FROM it."""
    return Path(script("base-image"))


def script(*arguments: str, **environment: str) -> str:
    """Run `tests/cluster/cluster` and return what it printed."""
    found = {**os.environ, "CLUSTER_PYTHON": sys.executable, **environment}
    return _output([str(SCRIPT), *arguments], found, None, timeout=None).strip()


def succeeds(function: Callable[..., object], *arguments: str, **options: Any) -> bool:
    try:
        function(*arguments, **options)
    except (CommandFailed, subprocess.TimeoutExpired):
        return False
    return True


def eventually(condition: Callable[[], bool], within_seconds: float) -> float:
    """Ask until the answer is yes, and return how many seconds that took."""
    start = time.monotonic()
    while not condition():
        passed = time.monotonic() - start
        assert passed < within_seconds, f"still not so after {passed:.1f} s"
        time.sleep(0.1)
    return time.monotonic() - start


@cache
def _ours() -> Cluster:
    was_up = succeeds(script, "status")
    try:
        return Cluster(Path(script("up")), is_ours=True, was_started=not was_up)
    except BaseException:
        if not was_up:
            script("down")
        raise


def _named() -> Cluster:
    path = os.environ.get("KUBECONFIG", "")
    if not Path(path).is_file():
        pytest.fail(f"{VARIABLE}=kubeconfig needs KUBECONFIG to name the file of a cluster that may be tested on")
    return Cluster(Path(path), is_ours=False)


def _cannot_build() -> str | None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root on Linux can start a cluster"
    if not shutil.which("go") and not (CACHE / "pause.tar").exists():
        return "there is no Go here to build a cluster with; install Go 1.26 or newer"
    return None


def _program(name: str) -> str:
    own = CACHE / "bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    assert found, f"there is no {name} here; install it, or build it by `tests/cluster/cluster build`"
    return found


def _output(command: list[str], environment: Mapping[str, str], input: str | None, timeout: float | None) -> str:
    done = subprocess.run(
        command,
        env=dict(environment),
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
