"""The operator's file: what is good is read, and what is not is refused with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.backends import create_backend
from broker.setting_values import SettingsError
from broker.settings import Settings
from pool.kube.config import ConfigUnusable, ExecutorConfig, decoded

LEAST: dict[str, Any] = {"namespace": "agents", "image": "executor:1", "pool": "ci", "anchor": "ci-anchor"}


def read(**changed: Any) -> ExecutorConfig:
    return decoded(msgspec.json.encode({**LEAST, **changed}))


def test_little_needs_to_be_said():
    config = read()
    assert (config.namespace, config.image, config.pool, config.anchor) == ("agents", "executor:1", "ci", "ci-anchor")
    assert config.egress_check.mode == "on"
    assert config.security_context.run_as_user == 65532


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"imagePullPolcy": "Always"}, "imagePullPolcy"),
        ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"securityContext": {"mode": "openshift"}}, "mode"),
        ({"securityContext": {"readOnlyRootFilesystem": False}}, "set true"),
        ({"egressCheck": {"mode": "sometimes"}}, "mode"),
        ({"egressCheck": {"targets": [{"host": "10.0.0.1", "port": 0}]}}, "port"),
        ({"egressCheck": {"targets": [{"host": "kubernetes.default", "port": 443}]}}, "give the address"),
        ({"hostUsers": False, "runtimeClassName": "gvisor"}, "leave hostUsers out"),
        ({"anchor": ""}, "needs anchor"),
        ({"tolerations": "all"}, "tolerations"),
        ({"readyTimeoutSeconds": 0}, "readyTimeoutSeconds"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], words: str):
    with pytest.raises(ConfigUnusable, match=words):
        read(**changed)


def test_no_json_is_refused():
    with pytest.raises(ConfigUnusable):
        decoded(b"namespace: agents")


def test_without_owner_references_no_anchor_is_needed():
    assert read(anchor="", setOwnerReferences=False).anchor == ""


@pytest.mark.parametrize(
    ("secret", "words"),
    [(None, "cannot be read: No such file"), (b"  0123456789abcdef\n", "has 16 bytes, and needs 32")],
)
def test_a_secret_of_sessions_that_is_none_stops_the_start(tmp_path: Path, secret: bytes | None, words: str):
    executor, path = tmp_path / "executor.json", tmp_path / "secret"
    executor.write_bytes(msgspec.json.encode({**LEAST, "egressCheck": {"mode": "off"}}))
    if secret is not None:
        path.write_bytes(secret)
    settings = Settings(
        executor_backend="kubernetes", executor_file=str(executor), session_secret_file=str(path), preload=()
    )
    with pytest.raises(SettingsError, match=words):
        create_backend(settings, preload=())
    path.write_bytes(b"0" * 32)
    assert create_backend(settings, preload=()).name == "kubernetes"
