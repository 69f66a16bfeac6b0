"""What is refused, and with which sentence: wrong names and types by lint, unsafe combinations by the render."""

from __future__ import annotations

import pytest

from tests.chart.rendering import lint, rendered, sets, template

QUOTA = ("executorResourceQuota.enabled=true", "executor.namespace.name=programs")
PERSISTENT = "files.persistence.enabled=true"

WRONG = {
    "unknown at the top": ("replicas=2", "additional properties 'replicas' not allowed"),
    "unknown below": ("pool.maxRuns=2", "at '/pool': additional properties 'maxRuns' not allowed"),
    "unknown in Onyx's part": ("codeInterpreter.kubernetesExecutor.cpu=2", "additional properties 'cpu' not allowed"),
    "unknown in a security context": ("securityContext.runAsNonroot=true", "'runAsNonroot' not allowed"),
    "unknown in a probe": ("livenessProbe.period=1", "at '/livenessProbe': additional properties 'period' not allowed"),
    "unknown in a list": ("tolerations=[{kei: a}]", "at '/tolerations/0': additional properties 'kei' not allowed"),
    "text for a number": ("pool.size=many", "at '/pool/size': got string, want integer"),
    "number for a switch": ("executor.namespace.create=1", "got number, want boolean"),
    "number for a variable": ("extraEnvVars=[{name: A, value: 1}]", "got number, want string"),
    "none of the words": ("pool.reuseScope=all", "value must be one of '', 'any', 'tenant'"),
    "too small": ("pool.size=0", "at '/pool/size': minimum: got 0, want 1"),
    "no quantity": ("executor.workspaceSizeLimit=1X", "at '/executor/workspaceSizeLimit': '1X' does not match"),
    "no object store": ("files.objectStore.url=https://files", "at '/files/objectStore/url'"),
    "no namespace": ("executor.namespace.name=A_B", "at '/executor/namespace/name': 'A_B' does not match"),
}

UNSAFE = {
    "reuse without a scope": (
        ["pool.maxRunsPerSandbox=20"],
        "pool.maxRunsPerSandbox is 20 and pool.reuseScope is not set: say whose programs may share a pod",
    ),
    "a limit of tenants without keys": (
        ["tenants.concurrency=4"],
        "tenants.concurrency is 4 and keys.existingSecret is not set: without keys nobody is a tenant",
    ),
    "a page that nobody can open": (
        ["keys.existingSecret=keys", "codeInterpreter.playground=on"],
        "which a browser does not send when it opens a page",
    ),
    "a monitor without a key": (
        ["keys.existingSecret=keys", "metrics.serviceMonitor.enabled=true"],
        "set metrics.public to true",
    ),
    "more than the quota has pods": (
        [*QUOTA, "pool.maxInFlight=20", "replicaCount=2", "fileStorage.shared=true"],
        "pool.maxInFlight (capacity.maxConcurrentExecutions) is 20 and replicaCount is 2: together 40 programs at once,"
        " above executorResourceQuota.hard.pods, which is 32.",
    ),
    "quota on the release's namespace": (
        ["executorResourceQuota.enabled=true"],
        "executor pods share the release's namespace agents, where it would count every pod",
    ),
    "a writable root": (
        ["executor.securityContext.readOnlyRootFilesystem=false"],
        "executor.securityContext.readOnlyRootFilesystem is false",
    ),
    "a writable root, as Onyx spells it": (
        ["codeInterpreter.kubernetesExecutor.securityContext.readOnlyRootFilesystem=false"],
        "executor.securityContext.readOnlyRootFilesystem is false",
    ),
    "programs as root": (
        ["executor.securityContext.runAsUser=0"],
        "executor.securityContext.runAsUser is 0: nothing here runs as root.",
    ),
    "the service as root": (["podSecurityContext.runAsUser=0"], "podSecurityContext.runAsUser is 0"),
    "its container as root": (["securityContext.runAsUser=0"], "securityContext.runAsUser is 0"),
    "perhaps as root": (["podSecurityContext.runAsNonRoot=false"], "podSecurityContext.runAsNonRoot is false"),
    "gVisor in a user namespace": (
        ["executor.runtimeClassName=gvisor", "executor.hostUsers=false"],
        "executor.hostUsers is false and executor.runtimeClassName is gvisor: gVisor refuses pods with a user",
    ),
    "gVisor by another name": (
        ["codeInterpreter.kubernetesExecutor.pod.runtimeClassName=runsc-kvm", "executor.hostUsers=false"],
        "executor.runtimeClassName is runsc-kvm",
    ),
    "replicas with files of their own": (
        ["replicaCount=2"],
        "replicaCount is 2 and files lie in each replica's own folder: set files.objectStore.url",
    ),
    "replicas with a volume for one": (
        ["replicaCount=2", PERSISTENT],
        "files lie in a volume that only one node may write (accessModes ReadWriteOnce)",
    ),
    "files in two places": (
        [PERSISTENT, "files.objectStore.url=s3://bucket"],
        "files.persistence.enabled is true and files.objectStore.url is set: files lie in one of them",
    ),
    "two volumes at one place": (
        [PERSISTENT, "volumeMounts=[{name: mine, mountPath: /var/lib/code-interpreter/}]"],
        "files.persistence.enabled is true and volumeMounts has a volume of yours at /var/lib/code-interpreter/ too",
    ),
    "a claim that nobody uses": (
        ["files.persistence.existingClaim=mine"],
        "files.persistence.existingClaim is mine and files.persistence.enabled is false",
    ),
    "making the release's namespace": (
        ["executor.namespace.create=true"],
        "executor.namespace.create is true and the executor namespace is the release's own, agents",
    ),
    "a label that selects": (
        ['executor.labels={"app.kubernetes.io/component": "service"}'],
        "executor.labels sets app.kubernetes.io/component, by which the chart tells the service's pods from executor",
    ),
    "another pool": (['podLabels={"code-interpreter/pool": "x"}'], "podLabels sets code-interpreter/pool"),
    "a port where nothing listens": (
        ["service.targetPort=9000"],
        "service.targetPort is 9000 and codeInterpreter.port is 8000: nothing listens there.",
    ),
    "an address nobody reaches": (["codeInterpreter.host=127.0.0.1"], "codeInterpreter.host is 127.0.0.1: neither"),
    "the chart's own variable": (
        ["extraEnvVars=[{name: EXECUTOR_BACKEND, value: local}]"],
        "extraEnvVars sets EXECUTOR_BACKEND, which ties the service to its pods",
    ),
    "a budget with two numbers": (
        ["podDisruptionBudget.minAvailable=1", "podDisruptionBudget.maxUnavailable=1"],
        "podDisruptionBudget has minAvailable and maxUnavailable: give one of them.",
    ),
    "a budget that blocks": (
        ["podDisruptionBudget.minAvailable=1"],
        "podDisruptionBudget never lets a pod of the 1 go: no node with one could be drained.",
    ),
    "a budget of none": (["podDisruptionBudget.maxUnavailable=0"], "podDisruptionBudget never lets a pod of the 1 go"),
}

ONYX = "codeInterpreter.kubernetesExecutor"
SPELLINGS = [
    ("pool.maxInFlight", "capacity.maxConcurrentExecutions", "8", "16"),
    ("executor.namespace.name", f"{ONYX}.namespace", "one", "two"),
    (f"{ONYX}.namespace", "codeInterpreter.kubernetes.namespace", "one", "two"),
    (f"{ONYX}.image", "codeInterpreter.kubernetes.image", "one:1", "two:1"),
    ("executor.image.pullPolicy", f"{ONYX}.imagePullPolicy", "Always", "Never"),
    ("executor.serviceAccountName", f"{ONYX}.serviceAccount", "one", "two"),
    ("executor.readyTimeoutSeconds", f"{ONYX}.readyTimeoutSec", "30", "60"),
    ("executor.setOwnerReferences", f"{ONYX}.setOwnerReferences", "true", "false"),
    ("executor.securityContext.mode", f"{ONYX}.securityContext.mode", "fixed", "platform"),
    ("executor.securityContext.runAsUser", f"{ONYX}.securityContext.runAsUser", "1", "2"),
    ("executor.securityContext.runAsGroup", f"{ONYX}.securityContext.runAsGroup", "1", "2"),
    ("executor.securityContext.fsGroup", f"{ONYX}.securityContext.fsGroup", "1", "2"),
    (
        "executor.securityContext.readOnlyRootFilesystem",
        f"{ONYX}.securityContext.readOnlyRootFilesystem",
        "true",
        "false",
    ),
    ("executor.resources.limits.cpu", f"{ONYX}.podResources.limits.cpu", "1", "2"),
    ("executor.resources.requests.ephemeral-storage", f"{ONYX}.podResources.requests.ephemeral-storage", "1Mi", "2Mi"),
    ("executor.workspaceSizeLimit", f"{ONYX}.workspaceSizeLimit", "1Mi", "2Mi"),
    ("executor.tmpSizeLimit", f"{ONYX}.tmpSizeLimit", "1Mi", "2Mi"),
    ("executor.priorityClassName", f"{ONYX}.pod.priorityClassName", "one", "two"),
    ("executor.runtimeClassName", f"{ONYX}.pod.runtimeClassName", "one", "two"),
]


@pytest.mark.parametrize(("setting", "sentence"), WRONG.values(), ids=WRONG)
def test_lint_refuses_wrong_names_and_types(setting: str, sentence: str):
    done = lint(sets(setting))
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr


@pytest.mark.parametrize(("settings", "sentence"), UNSAFE.values(), ids=UNSAFE)
def test_render_refuses_unsafe_combinations(settings: list[str], sentence: str):
    done = template(sets(*settings))
    assert done.returncode != 0
    assert sentence in done.stderr


@pytest.mark.parametrize(("ours", "theirs", "one", "other"), SPELLINGS, ids=[case[1] for case in SPELLINGS])
def test_two_spellings_must_agree(ours: str, theirs: str, one: str, other: str):
    done = template(sets(f"{ours}={one}", f"{theirs}={other}"))
    assert done.returncode != 0
    assert f"{ours} is {one} and {theirs} is {other}: they are one setting, give one of them." in done.stderr
    assert rendered(sets(f"{ours}={one}", f"{theirs}={one}")) == rendered(sets(f"{ours}={one}"))
    assert rendered(sets(f"{theirs}={one}")) == rendered(sets(f"{ours}={one}"))


def test_the_two_spellings_of_the_image_must_agree():
    ours = ["executor.image.repository=mine", "executor.image.tag=v1"]
    done = template(sets(*ours, f"{ONYX}.image=theirs:v1"))
    assert "executor.image is mine:v1 and codeInterpreter.kubernetesExecutor.image is theirs:v1" in done.stderr
    assert rendered(sets(*ours, f"{ONYX}.image=mine:v1")) == rendered(sets(*ours))


def test_quota_for_exactly_what_runs_at_once_is_enough():
    rendered(sets(*QUOTA, "pool.maxInFlight=16", "replicaCount=2", "fileStorage.shared=true"))
