"""The pod that a sandbox is: restricted, sized, and the same for two replicas that want the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pool import RunLimits
from pool.kube.config import ExecutorConfig, decoded
from pool.kube.manifest import MIB, Plan, memory_mib, pod, selector, shape


def config(**changed: Any) -> ExecutorConfig:
    given = {"namespace": "agents", "image": "executor:1", "pool": "ci", "anchor": "ci-anchor", **changed}
    return decoded(msgspec.json.encode(given))


def plan(limits: RunLimits | None = None, **changed: Any) -> Plan:
    return Plan(config=config(**changed), limits=limits or RunLimits())


def made(limits: RunLimits | None = None, **changed: Any) -> dict[str, Any]:
    return pod(plan(limits, **changed), name="ci-1", owner="me-1", anchor_uid="u-1")


def only_container(found: dict[str, Any]) -> dict[str, Any]:
    (container,) = found["spec"]["containers"]
    return container


def test_it_asks_for_no_more_than_restricted_gives():
    found = made()
    container = only_container(found)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    context = found["spec"]["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 65532)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "sysctls" not in context
    assert {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & found["spec"].keys() == set()


def test_what_is_execd_in_it_begins_where_no_guest_writes():
    assert only_container(made())["workingDir"] == "/"


def test_it_knows_nothing_of_the_cluster():
    spec = made()["spec"]
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"], spec["dnsPolicy"]) == (
        False,
        False,
        "None",
    )
    assert "env" not in only_container(made())


def test_all_that_can_be_written_is_memory_with_a_limit():
    found = made()
    volumes = {each["name"]: each["emptyDir"] for each in found["spec"]["volumes"]}
    assert {each["mountPath"] for each in only_container(found)["volumeMounts"]} == {"/workspace", "/tmp", "/dev/shm"}
    assert all(each["medium"] == "Memory" and int(each["sizeLimit"]) > 0 for each in volumes.values())


def test_its_memory_holds_the_program_its_files_and_ours():
    limits = RunLimits(memory_bytes=512 * MIB)
    resources = only_container(made(limits))["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == f"{memory_mib(limits)}Mi"
    files = limits.workspace_bytes + limits.tmp_bytes + limits.shm_bytes
    assert memory_mib(limits) * MIB > limits.memory_bytes + files + 3 * 1024 * limits.inodes


def test_an_operators_memory_does_not_replace_ours():
    limits = only_container(made(resources={"limits": {"memory": "1Gi", "cpu": "2"}}))["resources"]["limits"]
    assert (limits["memory"], limits["cpu"]) == (f"{memory_mib(RunLimits())}Mi", "2")


def test_what_is_written_to_the_nodes_disk_has_an_end():
    assert only_container(made())["resources"]["limits"]["ephemeral-storage"] == "128Mi"
    named = made(resources={"limits": {"ephemeral-storage": "1Gi"}})
    assert only_container(named)["resources"]["limits"]["ephemeral-storage"] == "1Gi"


def test_an_eviction_waits_for_the_longest_run():
    found = pod(
        Plan(config=config(), limits=RunLimits(), longest_run_seconds=300), name="n", owner="o", anchor_uid=None
    )
    assert found["spec"]["terminationGracePeriodSeconds"] == 310
    assert "ownerReferences" not in found["metadata"]


def test_it_goes_with_its_anchor_and_drain_may_touch_it():
    (reference,) = made()["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["name"], reference["uid"], reference["controller"]) == (
        *("ConfigMap", "ci-anchor", "u-1"),
        True,
    )


def test_an_operators_labels_cannot_take_the_place_of_ours():
    labels = made(labels={"code-interpreter/owner": "somebody", "team": "a"})["metadata"]["labels"]
    assert (labels["code-interpreter/owner"], labels["team"]) == ("me-1", "a")
    assert all(f"{key}={value}" for key, value in labels.items() if f"{key}={value}" in selector(config()))


def test_the_platform_gives_the_ids_where_it_is_asked_to():
    assert set(made(securityContext={"mode": "platform"})["spec"]["securityContext"]) == {
        "runAsNonRoot",
        "seccompProfile",
    }


def test_it_leaves_a_lost_node_soon_unless_the_operator_says_when():
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600}
    found = made(tolerations=[own])["spec"]["tolerations"]
    assert own in found
    assert [each["tolerationSeconds"] for each in found if each["key"].endswith("not-ready")] == [600]
    assert [each["tolerationSeconds"] for each in found if each["key"].endswith("unreachable")] == [15]


@pytest.mark.parametrize("changed", [{"image": "executor:2"}, {"labels": {"a": "b"}}, {"runtimeClassName": "kata"}])
def test_pods_that_differ_have_another_shape(changed: dict[str, Any]):
    assert shape(plan(**changed)) != shape(plan())


def test_what_is_the_replicas_own_is_no_part_of_the_shape():
    found = {
        pod(plan(), name=name, owner=name, anchor_uid=name)["metadata"]["labels"]["code-interpreter/shape"]
        for name in "ab"
    }
    assert found == {shape(plan())}


def test_limits_reach_the_runtime():
    *_, facts = only_container(made(RunLimits(processes=7)))["command"]
    assert json.loads(facts)["limits"]["processes"] == 7
