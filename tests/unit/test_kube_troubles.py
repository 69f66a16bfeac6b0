"""What the API server and pods say, in words for an operator."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pool.kube.pods import Pod
from pool.kube.troubles import ClusterError, refusal, start_refused, why_not_coming

QUOTA = 'pods "x" is forbidden: exceeded quota: ci, requested: pods=1, used: pods=8, limited: pods=8'
SECURITY = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
RBAC = 'pods is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods" in API group ""'


def answer(status: int, message: str) -> ClusterError:
    return refusal(status, json.dumps({"kind": "Status", "reason": "Forbidden", "message": message}).encode())


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (403, QUOTA, "quota"),
        (403, SECURITY, "pod_security"),
        (403, RBAC, "rbac"),
        (401, "Unauthorized", "unauthorized"),
        (404, 'namespaces "agents" not found', "namespace"),
        (429, "too many requests", "api_busy"),
        (422, "spec.containers[0].image: Required value", "rejected"),
        (500, "etcdserver: request timed out", "api_unavailable"),
    ],
)
def test_a_refusal_has_a_word_and_the_servers_own_text(status: int, message: str, reason: str):
    error = start_refused(answer(status, message))
    assert error.reason == reason
    assert message in str(error)


def test_no_answer_is_no_refusal():
    assert start_refused(ClusterError(0, "", "the API server did not answer")).reason == "api_unavailable"


def test_what_is_no_status_is_quoted_and_cut():
    error = refusal(502, b"<html>" + b"x" * 5000, "7")
    assert (len(error.message) <= 200, error.retry_after_seconds) == (True, 7.0)


def pod(**status: Any) -> Pod:
    metadata = {"name": "p", "uid": "u", "resourceVersion": "1"}
    return msgspec.json.decode(json.dumps({"metadata": metadata, "status": status}), type=Pod)


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "executor", "state": state}]}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (container(waiting={"reason": "ErrImagePull", "message": "not found"}), "image", "not found"),
        (container(waiting={"reason": "ImagePullBackOff"}), "image", "ImagePullBackOff"),
        (container(waiting={"reason": "CreateContainerError", "message": "no python3"}), "container", "no python3"),
        ({"conditions": [UNSCHEDULABLE]}, "unschedulable", "0/3 nodes"),
        ({"phase": "Failed", **container(terminated={"exitCode": 70, "message": "no nunpy"})}, "preload", "no nunpy"),
        ({"phase": "Failed", **container(terminated={"exitCode": 137, "reason": "OOMKilled"})}, "lost", "OOMKilled"),
        ({"phase": "Failed", "reason": "Evicted"}, "lost", "Evicted"),
    ],
)
def test_a_pod_that_does_not_come_says_why(status: dict[str, Any], reason: str, words: str):
    trouble = why_not_coming(pod(**status))
    assert trouble is not None
    assert trouble.reason == reason
    assert words in str(trouble)


@pytest.mark.parametrize("status", [{}, {"phase": "Pending"}, container(waiting={"reason": "ContainerCreating"})])
def test_a_pod_that_may_come_has_no_trouble(status: dict[str, Any]):
    assert why_not_coming(pod(**status)) is None
