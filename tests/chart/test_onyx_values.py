"""Every key of Onyx's chart means here what it means there: `values/onyx.yaml` sets them all, none to its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chart import rendering
from tests.chart.rendering import Object, container, executor_file, pod_spec, rendered, sets, the, values_of, variables

VALUES = rendering.FOLDER / "values" / "onyx.yaml"
NAME = "onyx-code-interpreter"
KEYS = """
    replicaCount image.repository image.pullPolicy image.tag imagePullSecrets nameOverride fullnameOverride
    serviceAccount.create serviceAccount.automount serviceAccount.annotations serviceAccount.name podAnnotations
    podLabels podSecurityContext.runAsNonRoot podSecurityContext.runAsUser podSecurityContext.fsGroup
    podSecurityContext.seccompProfile securityContext.capabilities service.type service.port service.targetPort
    service.annotations service.nodePort ingress.enabled ingress.className ingress.annotations ingress.hosts
    ingress.tls resources.limits resources.requests volumes volumeMounts nodeSelector tolerations affinity
    codeInterpreter.maxExecTimeoutMs codeInterpreter.maxOutputBytes codeInterpreter.cpuTimeLimitSec
    codeInterpreter.memoryLimitMb codeInterpreter.host codeInterpreter.port EXECUTOR.namespace EXECUTOR.image
    EXECUTOR.imagePullPolicy EXECUTOR.readyTimeoutSec EXECUTOR.serviceAccount EXECUTOR.netAdminLockdown
    EXECUTOR.setOwnerReferences EXECUTOR.securityContext.mode EXECUTOR.securityContext.runAsUser
    EXECUTOR.securityContext.runAsGroup EXECUTOR.securityContext.fsGroup
    EXECUTOR.securityContext.readOnlyRootFilesystem EXECUTOR.podResources.limits.cpu
    EXECUTOR.podResources.limits.memory EXECUTOR.podResources.limits.ephemeral-storage
    EXECUTOR.podResources.requests.cpu EXECUTOR.podResources.requests.memory
    EXECUTOR.podResources.requests.ephemeral-storage EXECUTOR.workspaceSizeLimit EXECUTOR.tmpSizeLimit
    EXECUTOR.pod.nodeSelector EXECUTOR.pod.tolerations EXECUTOR.pod.affinity EXECUTOR.pod.topologySpreadConstraints
    EXECUTOR.pod.priorityClassName EXECUTOR.pod.runtimeClassName EXECUTOR.pod.labels EXECUTOR.pod.annotations
    codeInterpreter.kubernetes.image codeInterpreter.kubernetes.namespace rbac.create rbac.additionalRules
    configMap.create configMap.data secret.create secret.data livenessProbe readinessProbe networkPolicy.enabled
    networkPolicy.policyTypes networkPolicy.ingress networkPolicy.egress extraEnvVars extraEnvFrom
    capacity.maxConcurrentExecutions capacity.queueTimeoutSec capacity.retryAfterSec capacity.capacityRetryAfterSec
    executorResourceQuota.enabled executorResourceQuota.allowReleaseNamespace executorResourceQuota.hard
    executorResourceQuota.scopes executorResourceQuota.limitRange.enabled
    executorResourceQuota.limitRange.defaultRequest executorResourceQuota.limitRange.default
    metrics.serviceMonitor.enabled metrics.serviceMonitor.interval metrics.serviceMonitor.scrapeTimeout
    metrics.serviceMonitor.labels fileStorage.shared global.registry
""".replace("EXECUTOR", "codeInterpreter.kubernetesExecutor").split()

WITHOUT_EFFECT = {
    "codeInterpreter.cpuTimeLimitSec": "it never was CPU seconds on Kubernetes",
    "codeInterpreter.kubernetesExecutor.netAdminLockdown": "no container gets NET_ADMIN; egress is proved",
    "codeInterpreter.kubernetesExecutor.podResources.limits.memory": "a pod's memory limit is computed",
    "codeInterpreter.kubernetesExecutor.podResources.requests.memory": "pods request what they are limited to",
    "capacity.retryAfterSec": "Retry-After is measured",
    "capacity.capacityRetryAfterSec": "Retry-After is measured",
}


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return rendered(values_of(VALUES))


@pytest.fixture(scope="module")
def given() -> Any:
    return rendering.loaded(VALUES.read_text())


@pytest.mark.parametrize("key", KEYS)
def test_the_file_sets_it(key: str, given: Any):
    value = given
    for name in key.split("."):
        value = value[name]
    assert value not in (None, "", [], {})


def test_identity_of_the_service(objects: list[Object], given: Any):
    spec, only = pod_spec(objects), container(objects)
    assert only["image"] == "example/service:latest"
    assert only["imagePullPolicy"] == "Always"
    assert spec["imagePullSecrets"] == [{"name": "registry-key"}]
    assert spec["securityContext"] == {**given["podSecurityContext"], "runAsGroup": 65532}
    assert only["securityContext"] == given["securityContext"]
    assert spec["serviceAccountName"] == "runner"
    account = the(objects, "ServiceAccount")
    assert account["metadata"]["name"] == "runner"
    assert account["metadata"]["annotations"] == {"example/role": "reader"}
    assert account["automountServiceAccountToken"] is True
    deployment = the(objects, "Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["metadata"]["name"] == f"{NAME}-service"
    assert deployment["metadata"]["labels"]["app.kubernetes.io/name"] == "interpreter"
    pod = deployment["spec"]["template"]["metadata"]
    assert pod["annotations"].items() >= {"example/note": "yes"}.items()
    assert pod["labels"].items() >= {"team": "agents"}.items()


def test_where_and_how_the_service_runs(objects: list[Object], given: Any):
    spec, only = pod_spec(objects), container(objects)
    for key in ("nodeSelector", "tolerations", "affinity"):
        assert spec[key] == given[key]
    for key in ("resources", "livenessProbe", "readinessProbe"):
        assert only[key] == given[key]
    assert given["volumes"][0] in spec["volumes"]
    assert given["volumeMounts"][0] in only["volumeMounts"]
    # The folder of files is now the operator's volume, and no second one is mounted over it.
    assert [mount["name"] for mount in only["volumeMounts"]] == [
        "service-executor",
        "service-sessions",
        "service-tmp",
        "shared",
    ]


def test_how_it_is_reached(objects: list[Object], given: Any):
    service = the(objects, "Service")
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 30080}
    ]
    assert service["metadata"]["annotations"] == given["service"]["annotations"]
    ingress = the(objects, "Ingress")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == given["ingress"]["tls"]
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == "programs.example"
    [path] = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    assert path["backend"]["service"] == {"name": NAME, "port": {"name": "http"}}
    policy = the(objects, "NetworkPolicy", NAME)["spec"]
    assert {key: policy[key] for key in ("policyTypes", "ingress", "egress")} == {
        key: given["networkPolicy"][key] for key in ("policyTypes", "ingress", "egress")
    }
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "service"
    monitor = the(objects, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [
        {"port": "http", "path": "/metrics", "interval": "15s", "scrapeTimeout": "5s"}
    ]


def test_variables_of_the_service(objects: list[Object], given: Any):
    expected = {
        "MAX_EXEC_TIMEOUT_MS": "120000",
        "MAX_OUTPUT_BYTES": "2000000",
        "MEMORY_LIMIT_MB": "512",
        "HOST": "::",
        "PORT": "8080",
        "MAX_CONCURRENT_EXECUTIONS": "12",
        "EXECUTION_QUEUE_TIMEOUT_SEC": "5",
        "BROKER_WORKSPACE_MB": "1024",
        "BROKER_TMP_MB": "96",
        "EXTRA": "1",
        "LOG_LEVEL": "debug",
    }
    assert variables(objects).items() >= expected.items()
    names = [entry["name"] for entry in container(objects)["env"]]
    assert len(names) == len(set(names))
    own = [{"configMapRef": {"name": NAME}}, {"secretRef": {"name": NAME}}]
    assert container(objects)["envFrom"] == own + given["extraEnvFrom"]
    assert the(objects, "ConfigMap", NAME)["data"] == {"CUSTOM": "value"}
    assert the(objects, "Secret", NAME)["data"] == {"API_KEY": "c2VjcmV0"}


def test_what_the_service_knows_of_its_pods(objects: list[Object], given: Any):
    known, executor = executor_file(objects), given["codeInterpreter"]["kubernetesExecutor"]
    assert known["namespace"] == "programs"
    assert known["image"] == "example/executor:sci"
    assert known["imagePullPolicy"] == "Always"
    assert known["readyTimeoutSeconds"] == 60
    assert known["serviceAccountName"] == "nobody"
    assert known["setOwnerReferences"] is False
    assert known["securityContext"] == executor["securityContext"]
    assert known["resources"] == {
        "limits": {"cpu": "3", "ephemeral-storage": "1Gi"},
        "requests": {"cpu": "250m", "ephemeral-storage": "32Mi"},
    }
    for key, value in executor["pod"].items():
        assert known[key] == value, key


def test_what_lies_in_the_executor_namespace(objects: list[Object], given: Any):
    theirs = {(item["kind"], item["metadata"]["name"]) for item in objects if in_programs(item)}
    assert theirs == {
        ("ConfigMap", f"{NAME}-anchor"),
        ("LimitRange", f"{NAME}-executor"),
        ("NetworkPolicy", f"{NAME}-executor"),
        ("ResourceQuota", f"{NAME}-executor"),
        ("Role", f"{NAME}-executor"),
        ("RoleBinding", f"{NAME}-executor"),
    }
    quota = given["executorResourceQuota"]
    assert the(objects, "ResourceQuota")["spec"] == {"hard": quota["hard"], "scopes": quota["scopes"]}
    [limit] = the(objects, "LimitRange")["spec"]["limits"]
    assert limit == {
        "type": "Container",
        "defaultRequest": quota["limitRange"]["defaultRequest"],
        "default": quota["limitRange"]["default"],
    }
    assert the(objects, "Role")["rules"][-1] == given["rbac"]["additionalRules"][0]


def in_programs(item: Object) -> bool:
    return bool(item["metadata"].get("namespace") == "programs")


def test_what_has_no_effect_is_named_with_the_reason(tmp_path: Path):
    told = rendering.notes(values_of(VALUES), tmp_path)
    for key, reason in WITHOUT_EFFECT.items():
        assert f"* {key} has no effect: {reason}" in told


def test_the_older_spelling_alone():
    known = executor_file(
        rendered(sets("codeInterpreter.kubernetes.image=old/executor:1", "codeInterpreter.kubernetes.namespace=old"))
    )
    assert (known["image"], known["namespace"]) == ("old/executor:1", "old")


@pytest.mark.parametrize("key", ["executor.resources", "codeInterpreter.kubernetesExecutor.podResources"])
def test_null_takes_a_limit_away(key: str):
    known = executor_file(rendered(sets(f"{key}.limits.cpu=null")))
    assert known["resources"]["limits"] == {"ephemeral-storage": "128Mi"}


def test_platform_mode_leaves_out_ids():
    mode = "codeInterpreter.kubernetesExecutor.securityContext.mode=platform"
    assert executor_file(rendered(sets(mode)))["securityContext"] == {
        "mode": "platform",
        "readOnlyRootFilesystem": True,
    }


def test_replicas_that_share_files_by_the_operators_word(tmp_path: Path):
    arguments = sets("replicaCount=2", "fileStorage.shared=true")
    assert the(rendered(arguments), "Deployment")["spec"]["replicas"] == 2
    assert "fileStorage.shared is true and nothing is mounted at" in rendering.notes(arguments, tmp_path)
