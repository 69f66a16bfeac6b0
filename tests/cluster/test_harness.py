"""The test cluster itself: whether it is as real as the tests that stand on it believe."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.harness import BASE_IMAGE, Cluster, Manifest, base_image, eventually, succeeds
from tests.cluster.simulated import TAINT, simulated_nodes

PORT = 8080
API_SERVICE = ("10.96.0.1", 443)
HOST = "10.99.0.1"
SOON_SECONDS = 15.0
GAP_SECONDS = 4.0
SERVE = f"import http.server as h; h.ThreadingHTTPServer(('', {PORT}), h.SimpleHTTPRequestHandler).serve_forever()"
# What answers to no connection within a second is taken to be cut off: everything here is on one machine.
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"
FETCH = (
    "import urllib.request, sys; urllib.request.urlopen(f'http://{sys.argv[1]}:{sys.argv[2]}/etc/hostname', timeout=1)"
)


def a_pod(namespace: str, name: str) -> Manifest:
    container = {
        "name": "main",
        "image": BASE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SERVE],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    spec = {"containers": [container], "automountServiceAccountToken": False, "enableServiceLinks": False}
    metadata = {"namespace": namespace, "name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def deny_all(namespace: str, app: str, *directions: str) -> Manifest:
    spec = {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": list(directions)}
    metadata = {"namespace": namespace, "name": f"deny-{app}"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


class Pods:
    """A server and two clients, each of which serves too."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def execute(self, name: str, *command: str) -> str:
        return self.cluster.kubectl("exec", "-n", self.namespace, name, "--", *command, timeout=20)

    def address(self, name: str) -> str:
        return str(self.cluster.get("pod", "-n", self.namespace, name)["status"]["podIP"])

    def reach(self, name: str, address: str, port: int = PORT) -> bool:
        return succeeds(self.execute, name, "python3", "-c", CONNECT, address, str(port))

    def fetch(self, name: str, address: str) -> bool:
        return succeeds(self.execute, name, "python3", "-c", FETCH, address, str(PORT))

    @contextmanager
    def policy(self, app: str, *directions: str) -> Iterator[None]:
        self.cluster.apply(deny_all(self.namespace, app, *directions))
        try:
            yield
        finally:
            self.cluster.kubectl("delete", "networkpolicy", "-n", self.namespace, f"deny-{app}")


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[Pods]:
    cluster.require_ours("an image without a registry")
    cluster.load_image(base_image())
    with cluster.namespace() as namespace:
        cluster.apply([a_pod(namespace, name) for name in ("server", "client", "bystander")])
        cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "--timeout=60s", "pod", "--all")
        yield Pods(cluster, namespace)


@pytest.fixture
def host_port() -> Iterator[int]:
    """Something outside the cluster that pods can reach."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


def test_nodes_are_ready(cluster: Cluster):
    nodes = cluster.get("nodes")["items"]
    assert [_condition(node, "Ready")["status"] for node in nodes] == ["True"] * len(nodes)
    assert nodes


def test_namespace_is_made_and_goes(cluster: Cluster):
    with cluster.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        assert (
            cluster.get("namespace", name)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        )
    eventually(lambda: not succeeds(cluster.kubectl, "get", "namespace", name), SOON_SECONDS)


def test_audit_log_says_who_asked_for_what(cluster: Cluster):
    path = f"/api/v1/namespaces/default/configmaps/{secrets.token_hex(8)}"
    assert not succeeds(cluster.kubectl, "get", "--raw", path)
    eventually(lambda: path in cluster.audit_log.read_text(), SOON_SECONDS)
    (entry,) = [json.loads(line) for line in cluster.audit_log.read_text().splitlines() if path in line]
    assert (entry["verb"], entry["user"]["username"], entry["responseStatus"]["code"]) == ("get", "admin", 404)


def test_pods_reach_each_other_and_what_is_around_them(pods: Pods, host_port: int):
    assert pods.fetch("client", pods.address("server"))
    assert pods.reach("client", *API_SERVICE)
    assert pods.reach("client", HOST, host_port)


def test_without_an_enforcer_a_policy_is_ignored(pods: Pods):
    with pods.policy("client", "Ingress", "Egress"):
        assert pods.fetch("client", pods.address("server"))
        assert pods.fetch("server", pods.address("client"))
        assert pods.reach("client", *API_SERVICE)


def test_enforcer_cuts_off_whom_a_policy_selects_and_nobody_else(pods: Pods, host_port: int):
    server, client = pods.address("server"), pods.address("client")
    with pods.cluster.started("enforcer"), pods.policy("client", "Ingress", "Egress"):
        eventually(lambda: not pods.reach("client", server), SOON_SECONDS)
        assert not pods.reach("client", *API_SERVICE)
        assert not pods.reach("client", HOST, host_port)
        assert not pods.reach("server", client)
        assert pods.fetch("bystander", server)
    assert pods.fetch("client", server)


def test_replies_come_back_from_a_pod_that_may_not_speak_first(pods: Pods):
    server, bystander = pods.address("server"), pods.address("bystander")
    with pods.cluster.started("enforcer"), pods.policy("server", "Egress"):
        eventually(lambda: not pods.reach("server", bystander), SOON_SECONDS)
        assert pods.fetch("bystander", server)


def test_enforcer_outlives_the_api_server(pods: Pods):
    server = pods.address("server")
    with pods.cluster.started("enforcer"):
        with pods.cluster.stopped("apiserver"):
            pass
        with pods.policy("client", "Egress"):
            eventually(lambda: not pods.reach("client", server), SOON_SECONDS)
        eventually(lambda: pods.reach("client", server), SOON_SECONDS)


def test_enforcement_comes_late_when_asked_to(pods: Pods):
    server = pods.address("server")
    with pods.cluster.started("enforcer", ENFORCER_DELAY_SECONDS=str(GAP_SECONDS)), pods.policy("client", "Egress"):
        assert pods.reach("client", server)
        assert eventually(lambda: not pods.reach("client", server), GAP_SECONDS + SOON_SECONDS) > GAP_SECONDS / 2


@pytest.mark.parametrize("component", ["apiserver", "containerd", "kubelet"])
def test_killed_component_comes_back(pods: Pods, component: str):
    with pods.cluster.stopped(component):
        assert not succeeds(pods.execute, "client", "true")
    eventually(lambda: succeeds(pods.execute, "client", "true"), SOON_SECONDS)


def test_simulated_nodes_carry_pods_that_ask_for_them_and_no_others(cluster: Cluster):
    with simulated_nodes(cluster, 1) as nodes, cluster.namespace() as namespace:
        cluster.apply([_on_a_simulated_node(namespace, f"pod-{number}") for number in range(20)])
        cluster.apply(a_pod(namespace, "real"))
        cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "--timeout=60s", "pod", "--all")
        found = cluster.get("pods", "-n", namespace)["items"]
        placed = {each["metadata"]["name"]: each["spec"]["nodeName"] for each in found}
        assert placed.pop("real") == "node-1"
        assert set(placed.values()) == set(nodes)
        cluster.kubectl("delete", "pods", "-n", namespace, "--all", "--timeout=60s", "--grace-period=1")


def _on_a_simulated_node(namespace: str, name: str) -> Manifest:
    pod: Any = dict(a_pod(namespace, name))
    toleration = {"key": TAINT["key"], "operator": "Exists"}
    return {**pod, "spec": {**pod["spec"], "nodeSelector": {"type": "kwok"}, "tolerations": [toleration]}}


def _condition(found: Any, kind: str) -> Any:
    return next(each for each in found["status"]["conditions"] if each["type"] == kind)
