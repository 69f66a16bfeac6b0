"""A release on a real cluster: it serves, it rolls without a lost request, and it goes without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import Cluster, CommandFailed, eventually
from tests.images.building import TAG, Images, build_from, load
from tests.kube.chart.release import Load, Release, Request, can_i, installed, installed_apart, uninstall

HEALTH = Request("GET", "/health")
OK = "200 '42\\n'"


def test_a_release_with_default_values_serves_the_readmes_request(release: Release):
    answer = release.post()
    assert (answer.status, answer.body["stdout"], answer.body["isolation"]) == (200, "42\n", "full")


def test_its_own_test_passes(release: Release):
    assert "Succeeded" in release.helm("test")


def test_its_pods_are_held_by_a_network_policy_and_each_has_proved_it(release: Release):
    [pod] = [each for each in release.pods("service") if not each["metadata"].get("deletionTimestamp")]
    health = release.cluster.kubectl(
        *("exec", "-n", release.namespace, pod["metadata"]["name"], "--", "python3", "-c"),
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/health').read().decode())",
    )
    assert '"network_isolation":"egress_proved"' in health


ALLOWED = [
    *(f"{verb} pods" for verb in ("get", "list", "watch", "create", "delete", "patch")),
    *(f"{verb} pods --subresource=exec" for verb in ("get", "create")),
    *(f"{verb} leases.coordination.k8s.io" for verb in ("list", "create", "patch", "delete")),
    *("create events", "patch events", "get configmap/ci-code-interpreter-anchor"),
]
DENIED = [
    *("update pods", "deletecollection pods", "get pods --subresource=log"),
    *("create pods --subresource=attach", "create pods --subresource=portforward", "create nodes --subresource=proxy"),
    *("get secrets", "list secrets", "create serviceaccounts", "list configmaps", "update configmaps", "get nodes"),
    *("create deployments.apps", "create networkpolicies.networking.k8s.io", "create roles.rbac.authorization.k8s.io"),
    *(f"{verb} leases.coordination.k8s.io" for verb in ("get", "watch", "update", "deletecollection")),
    *("list events", "get configmap/another", "patch configmap/ci-code-interpreter-anchor"),
    *("list namespaces", "impersonate users", "create serviceaccounts --subresource=token"),
]


def test_its_account_may_do_what_it_needs_and_nothing_else(release: Release):
    assert [each for each in ALLOWED if not can_i(release, each.split())] == []
    assert [each for each in DENIED if can_i(release, each.split())] == []


def test_an_upgrade_to_new_images_and_its_rollback_lose_no_request(
    release: Release, cluster: Cluster, images: Images, tmp_path: Path
):
    newer = [name.replace(f":{TAG}", ":newer") for name in images]
    for name, former in zip(newer, images, strict=True):
        build_from(f"FROM {former}\nLABEL release=newer\n", name, tmp_path)
        load(cluster, name)
    # Programs at a third of the pace at which two idle cores make their pods: they make those of the roll-out as well.
    programs, healths = Load(release.address, pause_seconds=2.5), Load(release.address, HEALTH, pause_seconds=0.05)
    with programs, healths:
        eventually(lambda: programs.answers[OK] > 2, 60)
        release.upgrade("image.tag=newer", "executor.image.tag=newer")
        eventually(lambda: release.images() == set(newer), 120)
        release.helm("rollback")
        eventually(lambda: release.images() == set(images), 120)
        eventually(lambda: programs.answers[OK] > 10, 60)
    print(f"{programs.answers.total()} programs, {healths.answers.total()} other requests")
    assert set(programs.answers) == {OK}
    assert set(healths.answers) == {"200"}


def test_a_roll_out_keeps_the_pods_warm(release: Release):
    eventually(lambda: len(release.pods("service")) == 1, 120)
    before = {pod["metadata"]["uid"] for pod in release.pods("executor")}
    release.upgrade("podAnnotations.rolled=yes")
    eventually(lambda: len(release.pods("service")) == 1, 120)
    after = {pod["metadata"]["uid"] for pod in release.pods("executor")}
    assert before & after


TWO_REPLICAS = (
    *("replicaCount=2", "fileStorage.shared=true", "pool.size=1", "sessions.workspaceSizeLimit=64Mi"),
    *("minReadySeconds=0", "shutdown.leaveSeconds=5"),
)


def test_a_session_is_every_replicas_and_outlives_a_roll_out_and_not_the_release(
    cluster: Cluster, images: Images, enforcer: None
):
    serve = "echo kept > index.html; python3 -m http.server --bind 127.0.0.1 8080 > log 2>&1 &"
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/').read().decode(), end='')"
    wait = "until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; do sleep 0.05; done"
    look = f'{wait}; python3 -c "{ask}"'
    with installed(cluster, images, *TWO_REPLICAS) as release:
        assert release.call("GET", "/health").body["version"] == "0.4.4"
        session = release.call("POST", "/v1/sessions", {"ttl_seconds": 600}).body["session_id"]
        release.bash(session, serve)
        assert [release.bash(session, look) for _ in range(8)] == ["kept\n"] * 8
        before = session_secret(release)
        release.upgrade(*TWO_REPLICAS, "podAnnotations.rolled=yes")
        eventually(lambda: len(release.pods("service")) == 2, 120)
        assert session_secret(release) == before
        assert [release.bash(session, look) for _ in range(8)] == ["kept\n"] * 8
        uninstall(release)
        eventually(lambda: not release.remains(), 60)


def session_secret(release: Release) -> str:
    data: dict[str, str] = release.cluster.get("secret", "ci-code-interpreter-sessions", "-n", release.namespace)[
        "data"
    ]
    return data["secret"]


APART = ("pool.size=2", "executorResourceQuota.enabled=true")


def test_a_release_with_a_namespace_for_its_programs_holds_them_there_and_leaves_nothing(
    cluster: Cluster, images: Images, enforcer: None
):
    with installed_apart(cluster, images, *APART) as release:
        assert release.post().status == 200
        assert {pod["metadata"]["namespace"] for pod in release.pods("executor")} == {release.executors}
        beside = in_namespace(release, "pods", release.namespace).values()
        assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in beside} == {"service"}
        assert_held(release)
        uninstall(release)
        eventually(lambda: not release.remains(), 60)


def assert_held(release: Release) -> None:
    """By Pod Security, by a quota that counts them, and by a policy for whatever else is there."""
    labels = release.cluster.get("namespace", release.executors)["metadata"]["labels"]
    modes = [labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")]
    assert modes == ["restricted"] * 3
    quota = in_namespace(release, "resourcequotas", release.executors)["ci-code-interpreter-executor"]
    assert quota["spec"]["hard"]["pods"] == "32"
    assert int(quota["status"]["used"]["pods"]) >= 2
    policy = in_namespace(release, "networkpolicies", release.executors)["ci-code-interpreter-deny-all"]
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def in_namespace(release: Release, kind: str, namespace: str) -> dict[str, Any]:
    """Of that kind, by name."""
    return {item["metadata"]["name"]: item for item in release.cluster.get(kind, "-n", namespace)["items"]}


def test_what_is_unsafe_is_not_installed(cluster: Cluster, images: Images):
    release = Release(cluster, images, "default")
    with pytest.raises(CommandFailed, match="reuseScope"):
        release.helm(
            "install", *release.values("pool.maxRunsPerSandbox=20"), "deploy/helm/code-interpreter", "--dry-run"
        )
