"""What holds in every branch: rights, labels, isolation, a roll-out that loses nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from broker import setting_pools
from broker import settings as broker_settings
from pool import RunLimits
from pool.kube.config import decoded
from pool.kube.manifest import MIB, memory_mib
from tests.chart import rendering
from tests.chart.rendering import Object, container, executor_file, pod_spec, rendered, sets, the, values_of, variables
from tests.source_tree import ROOT

BRANCHES = {branch.stem: values_of(branch) for branch in rendering.BRANCHES}


@pytest.fixture(params=list(BRANCHES))
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(BRANCHES[request.param])


def test_executor_pods_may_talk_to_nobody(objects: list[Object]):
    known = executor_file(objects)
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    denials = [item for item in policies if "executor" in str(item["spec"]["podSelector"])]
    [denial] = denials
    assert denial["metadata"]["namespace"] == known["namespace"]
    assert denial["spec"] == {
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/component": "executor", "code-interpreter/pool": known["pool"]}
        },
        "policyTypes": ["Ingress", "Egress"],
    }


def test_no_selector_finds_an_executor_pod(objects: list[Object]):
    known = executor_file(objects)
    labels = {**known["labels"], "app.kubernetes.io/component": "executor", "code-interpreter/pool": known["pool"]}
    for item in objects:
        spec = item.get("spec", {})
        selector = spec.get("selector") or {}
        chosen = selector.get("matchLabels", selector)
        if chosen:
            assert not chosen.items() <= labels.items(), item["metadata"]["name"]


def test_rights_in_the_executor_namespace_and_no_more(objects: list[Object]):
    known = executor_file(objects)
    assert [item for item in objects if item["kind"] in ("ClusterRole", "ClusterRoleBinding")] == []
    for item in objects:
        if item["kind"] in ("Role", "RoleBinding"):
            assert item["metadata"]["namespace"] == known["namespace"]


def test_rights_by_default():
    def rule(resource: str, *verbs: str, group: str = "", **more: Any) -> dict[str, Any]:
        return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs), **more}

    assert the(rendered(), "Role")["rules"] == [
        rule("pods", "get", "list", "watch", "create", "delete", "patch"),
        rule("pods/exec", "get", "create"),
        rule("leases", "list", "create", "patch", "delete", group="coordination.k8s.io"),
        rule("configmaps", "get", resourceNames=["code-interpreter-anchor"]),
        rule("events", "create", "patch"),
    ]
    [subject] = the(rendered(), "RoleBinding")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "code-interpreter", "namespace": "agents"}


def test_the_anchor_is_where_the_pods_are(objects: list[Object]):
    known = executor_file(objects)
    assert the(objects, "ConfigMap", known["anchor"])["metadata"]["namespace"] == known["namespace"]


def test_every_pod_is_locked_down(objects: list[Object]):
    for spec in (pod_spec(objects), the(objects, "Pod")["spec"]):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [only] = spec["containers"]
        assert only["securityContext"]["allowPrivilegeEscalation"] is False
        assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert only["resources"]["limits"]
    assert pod_spec(objects)["enableServiceLinks"] is False
    assert the(objects, "Pod")["spec"]["automountServiceAccountToken"] is False


def test_every_variable_is_a_setting_and_its_value_is_one(objects: list[Object]):
    given = {name: value for name, value in variables(objects).items() if name != "EXTRA"}
    assert set(given) <= set(broker_settings.VARIABLES)


def test_the_service_can_read_what_the_chart_writes(objects: list[Object]):
    decoded(json.dumps(executor_file(objects)).encode())


def test_the_chart_knows_how_much_memory_a_pod_takes():
    limits = RunLimits()
    ours = memory_mib(limits) - (limits.memory_bytes + limits.workspace_bytes + limits.tmp_bytes) // MIB
    assert f"$files {ours} " in (rendering.CHART / "templates/_notices.tpl").read_text()


def test_a_roll_out_takes_no_replica_away_first(objects: list[Object]):
    deployment = the(objects, "Deployment")["spec"]
    spec = deployment["template"]["spec"]
    if deployment["strategy"]["type"] == "RollingUpdate":
        assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    else:  # nothing but a volume with one writer is a reason
        claim = the(objects, "PersistentVolumeClaim")["spec"]
        assert claim["accessModes"] == ["ReadWriteOnce"]
    grace, leaving = (int(variables(objects)[f"BROKER_{name}_SECONDS"]) for name in ("GRACE", "LEAVE"))
    assert spec["terminationGracePeriodSeconds"] > grace + leaving + 10


def test_names_of_the_service_are_answered_where_hosts_are_listed():
    found = variables(rendered(sets("codeInterpreter.allowedHosts=[programs.example]")))
    inside = (
        "code-interpreter,code-interpreter.agents,code-interpreter.agents.svc,code-interpreter.agents.svc.cluster.local"
    )
    assert found["BROKER_ALLOWED_HOSTS"] == f"programs.example,{inside}"


def test_a_change_of_what_pods_are_made_of_rolls_the_service():
    def checksum(*settings: str) -> str:
        annotations = the(rendered(sets(*settings)), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/executor"])

    assert checksum() == checksum("replicaCount=1")
    assert checksum() != checksum("executor.image.tag=v2")


def test_replicas_have_sessions_where_each_can_serve_all():
    replicas = sets("replicaCount=3", "fileStorage.shared=true")
    assert variables(rendered(replicas))["BROKER_MAX_SESSIONS"] == "16"
    assert variables(rendered([*replicas, *sets("executor.runtimeClassName=gvisor")]))["BROKER_MAX_SESSIONS"] == "0"
    assert variables(rendered(sets("executor.runtimeClassName=gvisor")))["BROKER_MAX_SESSIONS"] == "16"


def test_the_secret_of_sessions_is_the_charts_or_the_one_that_is_named():
    secret = the(rendered(), "Secret")
    [volume] = [each for each in pod_spec(rendered())["volumes"] if each["name"] == "service-sessions"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    named = rendered(sets("sessions.existingSecret=mine", "sessions.secretKey=key"))
    assert [item for item in named if item["kind"] == "Secret"] == []
    [volume] = [each for each in pod_spec(named)["volumes"] if each["name"] == "service-sessions"]
    assert volume["secret"]["secretName"] == "mine"
    assert variables(named)["BROKER_SESSION_SECRET_FILE"] == "/etc/code-interpreter-sessions/key"
    without = rendered(sets("sessions.max=0"))
    assert [item for item in without if item["kind"] == "Secret"] == []
    assert "BROKER_SESSION_SECRET_FILE" not in variables(without)


def test_a_namespace_of_its_own():
    objects = rendered(BRANCHES["own-namespace"])
    labels = the(objects, "Namespace", "programs")["metadata"]["labels"]
    assert [labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")] == ["restricted"] * 3
    assert labels["team"] == "agents"
    everything = the(objects, "NetworkPolicy", "code-interpreter-deny-all")
    assert everything["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_labels_of_a_namespace_cannot_loosen_it():
    loose = (
        'executor.namespace={name: programs, create: true, labels: {"pod-security.kubernetes.io/enforce": privileged}}'
    )
    labels = the(rendered(sets(loose)), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("mode", "meant"), [("on", "on"), ("off", "off"), ("true", "on"), ('"off"', "off")])
def test_the_switch_of_the_egress_check_as_yaml_reads_it(mode: str, meant: str):
    # YAML 1.1 reads a bare on or off as true or false, in a values file too.
    assert executor_file(rendered(sets(f"egressCheck.mode={mode}")))["egressCheck"]["mode"] == meant


@pytest.mark.parametrize(
    ("size", "mebibytes"),
    [("100Mi", "100"), ("1Gi", "1024"), ("100M", "96"), ("0.5Gi", "512"), ("104857600", "100"), ("1k", "1")],
)
def test_sizes_come_out_in_mebibytes(size: str, mebibytes: str):
    assert variables(rendered(sets(f"executor.workspaceSizeLimit={size}")))["BROKER_WORKSPACE_MB"] == mebibytes


def test_a_volume_at_tmp_takes_the_place_of_ours():
    mine = sets("volumes=[{name: tmp, emptyDir: {}}]", "volumeMounts=[{name: tmp, mountPath: /tmp}]")
    mounts = container(rendered(mine))["volumeMounts"]
    assert [mount["name"] for mount in mounts if mount["mountPath"] == "/tmp"] == ["tmp"]


NOTICES = {
    "files that go with the pod": ([], "Files lie in the service's pod"),
    "a volume with one writer": (["files.persistence.enabled=true"], "The volume of files has one writer"),
    "no keys": ([], "whoever reaches the port can run programs and read every stored file"),
    "egress unproved": (["egressCheck.mode=off"], "egressCheck.mode is off: nothing proves"),
    "nobody may call": (["networkPolicy.enabled=true"], "networkPolicy.ingress is empty: no pod may call the service"),
    "no way to the API server": (["networkPolicy.enabled=true"], "it needs a rule for the API server's address"),
    "no rights": (["rbac.create=false"], "rbac.create is false: the service account code-interpreter needs the rights"),
    "no token": (["serviceAccount.automount=false"], "the service needs a token that you mount"),
    "a short grace": (["shutdown.graceSeconds=10"], "shutdown.graceSeconds is 10, less than the longest run"),
    "health for readiness": (["readinessProbe.httpGet.path=/health"], "readinessProbe asks /health"),
    "a limit range alone": (["executorResourceQuota.limitRange.enabled=true"], "limitRange has no effect"),
    "sessions that would live on one of several replicas": (
        ["executor.runtimeClassName=runsc", "replicaCount=2", "fileStorage.shared=true"],
        "No sessions: with executor.runtimeClassName runsc, which has no Landlock, each would live on the one replica",
    ),
    "a quota too small for pods": (
        ["executorResourceQuota={enabled: true, hard: {pods: 18}}", "executor.namespace.name=programs"],
        "executorResourceQuota.hard.pods is 18: with 16 programs running, the 4 warm pods that should wait beside them",
    ),
    "a quota too small for memory": (
        ["executorResourceQuota={enabled: true, hard: {requests.memory: 4Gi}}", "executor.namespace.name=programs"],
        "executorResourceQuota.hard.requests.memory is 4Gi, room for about 5 pods of 743 MiB; 20 may be needed.",
    ),
    "a quota too small for sessions": (
        ["executorResourceQuota={enabled: true, hard: {limits.memory: 24Gi}}", "executor.namespace.name=programs"],
        "executorResourceQuota.hard.limits.memory is 24Gi, too little for 16 sessions of 1477 MiB",
    ),
}


def test_a_sessions_memory_is_what_its_pod_requests():
    limits = setting_pools.limits_of_sessions(broker_settings.from_environment({}))
    assert f"sessions of {memory_mib(limits)} MiB" in NOTICES["a quota too small for sessions"][1]


@pytest.mark.parametrize(("settings", "sentence"), NOTICES.values(), ids=NOTICES)
def test_notes_say_what_is_to_be_known(settings: list[str], sentence: str, tmp_path: Path):
    assert sentence in rendering.notes(sets(*settings), tmp_path)


def test_notes_print_a_request():
    text = (rendering.CHART / "templates" / "NOTES.txt").read_text()
    [request] = re.findall(r"curl .*", text)
    # The same as in the README (tests/integration runs that one).
    assert request in (ROOT / "README.md").read_text()


def test_notes_are_quiet_where_nothing_is_to_be_said(tmp_path: Path):
    assert "Please note" not in rendering.notes(BRANCHES["object-store"], tmp_path)


def test_the_production_values_of_the_readme_leave_nothing_to_say(tmp_path: Path):
    [example] = re.findall(r"```yaml\n(.*?)```", (rendering.CHART / "README.md").read_text(), re.DOTALL)
    (tmp_path / "values.yaml").write_text(example)
    assert "Please note" not in rendering.notes(["--values", str(tmp_path / "values.yaml")], tmp_path)
