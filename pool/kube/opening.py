"""From the operator's wishes to a backend that may be started."""

from __future__ import annotations

from pathlib import Path

from pool.backend import Target
from pool.kube import config, manifest
from pool.kube.backend import KubeBackend, KubePlan
from pool.kube.session_key import SessionKey
from pool.local import USUAL_PRELOAD
from pool.settings import RunLimits


def kube_backend(
    *,
    executor_file: Path,
    preload: tuple[str, ...],
    limits: RunLimits,
    longest_run_seconds: int,
    replica: str,
    known_listeners: tuple[Target, ...] = (),
    kubeconfig: str | None = None,
    session_key: bytes | None = None,
) -> KubeBackend:
    """The backend for a cluster; starts nothing yet. Raises `ConfigUnusable`.

    `known_listeners` are the targets of the egress check where the operator names none; `session_key` is what lets each
    replica into the sessions of all.
    """
    try:
        wishes = config.decoded(executor_file.read_bytes())
    except OSError as error:
        raise config.ConfigUnusable(f"it cannot be read: {error.strerror}") from error
    pods = manifest.Plan(
        config=wishes,
        limits=limits,
        preload=preload if preload != USUAL_PRELOAD else (),
        preload_if_there=preload if preload == USUAL_PRELOAD else (),
        longest_run_seconds=longest_run_seconds,
    )
    targets = _targets(wishes.egress_check, known_listeners)
    key = None if session_key is None else SessionKey(session_key)
    return KubeBackend(
        KubePlan(pods=pods, replica=replica, kubeconfig=kubeconfig, targets=targets, session_key=key),
    )


def _targets(check: config.EgressCheck, known_listeners: tuple[Target, ...]) -> tuple[Target, ...]:
    if check.mode == "off":
        return ()
    named = tuple((each.protocol.lower(), each.host, each.port) for each in check.targets)
    found = named or known_listeners
    if not found:
        # SECURITY: a proof without a target proves nothing.
        raise config.ConfigUnusable(
            "egressCheck.mode=on without targets, and outside of a cluster none is known: name one that listens, as"
            " egressCheck.targets, or set egressCheck.mode=off if something else holds the pods' network"
        )
    return found
