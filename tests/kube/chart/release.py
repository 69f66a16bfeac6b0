"""The chart, installed on a real cluster as an operator would, and a client of what it installs."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from tests.cluster.harness import Cluster, CommandFailed, eventually
from tests.images.building import Images
from tests.source_tree import ROOT

CHART = ROOT / "deploy/helm/code-interpreter"
README_REQUEST = {"code": "print(6 * 7)"}
READY_SECONDS = 90.0


class Request(NamedTuple):
    method: str
    path: str
    body: dict[str, Any] | None = None


class Answer(NamedTuple):
    status: int
    body: Any

    def __str__(self) -> str:
        if self.status != 200:
            return f"{self.status} {self.body}"
        return f"200 {self.body['stdout']!r}" if "stdout" in self.body else "200"


PROGRAM = Request("POST", "/v1/execute", README_REQUEST)


class Release:
    """One release in a namespace of its own; its executor pods may be in another."""

    def __init__(self, cluster: Cluster, images: Images, namespace: str, executors: str = "") -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, "ci"
        self.executors = executors or namespace
        self._images = images

    # --- as an operator ---

    def values(self, *settings: str) -> list[str]:
        """Those that name images, which lie in no registry; the rest is as the chart has it."""
        service, executor = (name.rpartition(":") for name in self._images)
        given = [
            *(f"image.repository={service[0]}", f"image.tag={service[2]}"),
            *(f"executor.image.repository={executor[0]}", f"executor.image.tag={executor[2]}", *settings),
        ]
        return [word for each in given for word in ("--set", each)]

    def helm(self, verb: str, *arguments: str) -> str:
        return self.cluster.helm(verb, self.name, *arguments, "-n", self.namespace)

    def install(self, *settings: str) -> str:
        wait = ["--wait", f"--timeout={READY_SECONDS:.0f}s"]
        return self.helm("install", str(CHART), "--create-namespace", *self.values(*settings), *wait)

    def upgrade(self, *settings: str) -> str:
        return self.helm("upgrade", str(CHART), *self.values(*settings), "--wait", "--timeout=180s")

    def pods(self, component: str) -> list[Any]:
        selector = f"app.kubernetes.io/component={component}"
        namespace = self.executors if component == "executor" else self.namespace
        found: list[Any] = self.cluster.get("pods", "-n", namespace, "-l", selector)["items"]
        return found

    def images(self) -> set[str]:
        """Of all its pods, those on their way out too."""
        pods = [*self.pods("service"), *self.pods("executor")]
        return {container["image"] for pod in pods for container in pod["spec"]["containers"]}

    def remains(self) -> list[str]:
        """What is left of it: a namespace that it made, and in its own what not every namespace has."""
        kinds = "pods,leases,configmaps,secrets,services,deployments,roles,rolebindings,networkpolicies,serviceaccounts"
        found = self.cluster.kubectl("get", kinds, "-n", self.namespace, "-o", "name").split()
        if self.executors != self.namespace:
            found += self.cluster.kubectl(
                "get", "namespace", self.executors, "--ignore-not-found", "-o", "name"
            ).split()
        return [name for name in found if not name.endswith(("/kube-root-ca.crt", "serviceaccount/default"))]

    # --- as a client ---

    @property
    def address(self) -> str:
        """Of the Service: this machine has a route to it."""
        found: str = self.cluster.get("service", f"{self.name}-code-interpreter", "-n", self.namespace)["spec"][
            "clusterIP"
        ]
        return found

    def post(self, body: dict[str, Any] = README_REQUEST) -> Answer:
        return self.call("POST", "/v1/execute", body)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """On a connection of its own: whichever replica takes it."""
        with closing(http.client.HTTPConnection(self.address, 8000, timeout=70)) as connection:
            return asked(connection, Request(method, path, body))

    def bash(self, session_id: str, command: str) -> str:
        answer = self.call("POST", f"/v1/sessions/{session_id}/bash", {"cmd": command})
        assert (answer.status, answer.body.get("exit_code")) == (200, 0), answer
        stdout: str = answer.body["stdout"]
        return stdout


def asked(connection: http.client.HTTPConnection, request: Request) -> Answer:
    content = json.dumps(request.body)
    connection.request(request.method, request.path, content, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return Answer(response.status, json.loads(response.read() or "null"))


class Load:
    """A client that asks all the time, over a connection that it keeps for as long as it may."""

    def __init__(self, address: str, request: Request = PROGRAM, *, pause_seconds: float) -> None:
        self.answers: Counter[str] = Counter()
        self._address, self._request, self._pause_seconds = address, request, pause_seconds
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._ask)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with closing(http.client.HTTPConnection(self._address, 8000, timeout=70)) as connection:
            while not self._stop.wait(self._pause_seconds):
                try:
                    self.answers[str(asked(connection, self._request))] += 1
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    self.answers[repr(error)] += 1


@contextmanager
def installed(cluster: Cluster, images: Images, *settings: str) -> Iterator[Release]:
    with _installed(Release(cluster, images, f"test-{secrets.token_hex(4)}"), *settings) as release:
        yield release


@contextmanager
def installed_apart(cluster: Cluster, images: Images, *settings: str) -> Iterator[Release]:
    """Its executor pods are in a namespace that it makes for them."""
    namespace = f"test-{secrets.token_hex(4)}"
    executors = f"{namespace}-programs"
    apart = (f"executor.namespace.name={executors}", "executor.namespace.create=true")
    with _installed(Release(cluster, images, namespace, executors), *apart, *settings) as release:
        yield release


@contextmanager
def _installed(release: Release, *settings: str) -> Iterator[Release]:
    try:
        release.install(*settings)
        yield release
    finally:
        uninstall(release)
        release.cluster.kubectl("delete", "namespace", release.namespace, "--ignore-not-found", "--wait=false")


def uninstall(release: Release) -> None:
    release.helm("uninstall", "--ignore-not-found", "--wait")
    eventually(lambda: not release.pods("executor"), READY_SECONDS)


def can_i(release: Release, words: Sequence[str]) -> bool:
    """Whether the service's account may do that where its executor pods are."""
    account = f"system:serviceaccount:{release.namespace}:{release.name}-code-interpreter"
    try:
        said = release.cluster.kubectl("auth", "can-i", *words, "--as", account, "-n", release.executors)
    except CommandFailed:
        return False
    return said.strip() == "yes"
