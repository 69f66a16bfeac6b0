"""The pod that a sandbox is: from the operator's wishes and a run's limits to what the API server is sent. Pure.

It passes Pod Security `restricted`, and asks for more than that: no network names, no token, no service variables,
memory for disk. Source of the rules: kubernetes `pod-security-admission/policy`; measurements: `docs/kubernetes.md`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from pool.kube.config import ExecutorConfig
from pool.settings import RunLimits

Manifest = dict[str, Any]

CONTAINER = "executor"
START = "/opt/code-interpreter/start.py"
SUPERVISE = ("python3", "-I", "-S", START, "supervisor")
"""Exec'd. Short, and without a secret: the message of a failed exec quotes it."""

POOL, OWNER, SHAPE = "code-interpreter/pool", "code-interpreter/owner", "code-interpreter/shape"
COMPONENT, RUNS = "app.kubernetes.io/component", "code-interpreter/runs"
FREE, SESSIONS = "free", "session"
"""In place of an owner: of a pod that a replica has handed over, and of one that is a session, which all serve."""
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"

MIB = 2**20
RUNTIME_MIB = 200
"""Of the runtime itself: the zygote with the usual preload 130, the supervisor 12, what it keeps of a run's output 3.
Less and a program at its limit takes the pod with it; more is memory that a node holds back for nothing."""
INODE_BYTES = 1024
"""Of kernel memory, charged to the container, for each file."""
WRITABLE = (("workspace", "/workspace"), ("tmp", "/tmp"), ("shm", "/dev/shm"))  # noqa: S108  # in the pod

DISK = {"ephemeral-storage": "128Mi"}
"""SECURITY: logs and, without Landlock, /dev/termination-log are written to the node's disk; past this the pod is
evicted. Unless the operator names another."""

LONGEST_LIFE_SECONDS = 90_000
"""A pod that everybody has forgotten ends by then. It can only be lowered later."""
LEAVE_SECONDS = 15
"""On a node that is gone; 300 by default, for which a pool would be short of it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that makes pods alike."""

    config: ExecutorConfig
    limits: RunLimits
    preload: tuple[str, ...] = ()
    preload_if_there: tuple[str, ...] = ()
    longest_run_seconds: int = 60
    left_out: tuple[str, ...] = ()
    """Steps of the lock-down to leave out. SECURITY: only tests fill it; no setting leads here."""


def pod(plan: Plan, *, name: str, owner: str, anchor_uid: str | None) -> Manifest:
    """What to POST."""
    config = plan.config
    labels = {**config.labels, **_own_labels(config), OWNER: owner, SHAPE: shape(plan)}
    metadata: Manifest = {"name": name, "labels": labels, "annotations": _annotations(config)}
    if anchor_uid is not None:
        metadata["ownerReferences"] = [_owned_by(config.anchor, anchor_uid)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(plan)}


def shape(plan: Plan) -> str:
    """Differs for pods that differ: one replica takes over another's pod only if it would have made the same."""
    text = json.dumps([_spec(plan), plan.config.labels, _annotations(plan.config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def selector(config: ExecutorConfig) -> str:
    return f"{POOL}={config.pool},{COMPONENT}={CONTAINER}"


def memory_mib(limits: RunLimits) -> int:
    """The container's: the program's, its files', and ours. Tmpfs pages count against it, those of inodes too."""
    files = limits.workspace_bytes + limits.tmp_bytes + limits.shm_bytes + len(WRITABLE) * limits.inodes * INODE_BYTES
    return RUNTIME_MIB + -(-(limits.memory_bytes + files) // MIB)


def _own_labels(config: ExecutorConfig) -> dict[str, str]:
    # They match no workload's selector: a ReplicaSet would take the pod for one of its own.
    return {
        "app.kubernetes.io/name": "code-interpreter",
        COMPONENT: CONTAINER,
        POOL: config.pool,
        "sidecar.istio.io/inject": "false",  # a sidecar would be a second container, with a network
    }


def _annotations(config: ExecutorConfig) -> dict[str, str]:
    return {**config.annotations, SAFE_TO_EVICT: "true"}


def _owned_by(anchor: str, uid: str) -> Manifest:
    # `controller`, or `kubectl drain` refuses to touch the pod.
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": anchor, "uid": uid, "controller": True}


def _spec(plan: Plan) -> Manifest:
    config = plan.config
    spec: Manifest = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LONGEST_LIFE_SECONDS,
        # An eviction lets the program that runs end. Our own deletes ask for one second.
        "terminationGracePeriodSeconds": plan.longest_run_seconds + 10,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "hostname": "sandbox",
        "shareProcessNamespace": False,
        "securityContext": _pod_security(config),
        "tolerations": [*config.tolerations, *_leave_lost_nodes(config)],
        "containers": [_container(plan)],
        "volumes": [_memory_volume(name, size) for name, size in _sizes(plan.limits).items()],
    }
    wanted: Manifest = {
        "runtimeClassName": config.runtime_class_name,
        "serviceAccountName": config.service_account_name,
        "priorityClassName": config.priority_class_name,
        "nodeSelector": config.node_selector,
        "affinity": config.affinity,
        "topologySpreadConstraints": list(config.topology_spread_constraints),
        "imagePullSecrets": [{"name": name} for name in config.image_pull_secrets],
    }
    spec |= {key: value for key, value in wanted.items() if value}
    if config.host_users is not None:
        spec["hostUsers"] = config.host_users
    return spec


def _pod_security(config: ExecutorConfig) -> Manifest:
    context = config.security_context
    ids = {"runAsUser": context.run_as_user, "runAsGroup": context.run_as_group, "fsGroup": context.fs_group}
    given = ids if context.mode == "fixed" else {}
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **given}


def _leave_lost_nodes(config: ExecutorConfig) -> list[Manifest]:
    keys = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    named = {each.get("key") for each in config.tolerations}
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LEAVE_SECONDS}
        for key in keys
        if key not in named
    ]


def _container(plan: Plan) -> Manifest:
    config, memory = plan.config, f"{memory_mib(plan.limits)}Mi"
    return {
        "name": CONTAINER,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["python3", START, "zygote", _facts(plan)],
        "workingDir": "/",  # SECURITY: a guest writes in the image's own, maybe, where an exec would look for files
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            # As much as the limit: a program that is within its own must not be what a node in need ends first.
            "requests": {**config.resources.requests, "memory": memory},
            "limits": {**DISK, **config.resources.limits, "memory": memory},
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in WRITABLE],
    }


def _facts(plan: Plan) -> str:
    facts = {
        "limits": msgspec.to_builtins(plan.limits),
        "preload": plan.preload,
        "preload_if_there": plan.preload_if_there,
        "left_out": plan.left_out,
    }
    return json.dumps(facts, separators=(",", ":"))


def _sizes(limits: RunLimits) -> dict[str, int]:
    return {"workspace": limits.workspace_bytes, "tmp": limits.tmp_bytes, "shm": limits.shm_bytes}


def _memory_volume(name: str, size_bytes: int) -> Manifest:
    # SECURITY: one on disk has no hard limit: a pod saw the whole disk of its node.
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size_bytes)}}
