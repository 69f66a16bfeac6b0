"""What a pod's metadata says of the session that it is, and when such a pod is to go. Pure.

owner = session          no replica's: it outlives them all
session = <its id>       any replica finds it
session-terms = {…}      whose it is, until when, and how to talk to it
"""

from __future__ import annotations

import math
import re

import msgspec

from pool.kube import manifest
from pool.kube.pods import Pod
from pool.shared_session import SharedSession

SESSION, TERMS = "code-interpreter/session", "code-interpreter/session-terms"

LATE_SECONDS = 10.0
"""After its time, for which a pod is left to its own supervisor. Less ends sessions early where clocks of replicas
differ; more holds memory for nobody."""

DEADLINE_SLACK_SECONDS = 120.0
"""Between a session's time and the end that the kubelet makes of its pod, whatever lives: the last of three. Less ends
sessions early where our clock and the API server's differ; more holds memory for nobody."""

_TERMS = msgspec.json.Decoder(SharedSession)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Of a session, as it is made: a UUID, in lower case."""


def is_id(text: str) -> bool:
    """SECURITY: nothing else becomes a part of a label selector, with which another's pods could be asked for
    (tests/unit/test_kube_sessions.py)."""
    return _ID.fullmatch(text) is not None


def made_of(session: SharedSession, *, age_seconds: float, now: float) -> manifest.Manifest:
    """The one patch that makes a pod of that age a session. `now` is on the wall clock."""
    terms = msgspec.json.encode(session).decode()
    ends_seconds = math.ceil(max(0.0, age_seconds) + session.expires_at - now + DEADLINE_SLACK_SECONDS)
    return {
        "metadata": {
            "labels": {manifest.OWNER: manifest.SESSIONS, SESSION: session.session_id},
            # Whoever makes nodes fewer leaves this one: what is in it nobody can make again.
            "annotations": {TERMS: terms, manifest.SAFE_TO_EVICT: "false"},
        },
        # It can only be lowered (kubernetes ValidatePodUpdate).
        "spec": {"activeDeadlineSeconds": min(manifest.LONGEST_LIFE_SECONDS, ends_seconds)},
    }


def session_of(pod: Pod) -> SharedSession | None:
    """The session that it is, over or not; None for any other pod, and for terms of another age than ours."""
    if pod.owner != manifest.SESSIONS:
        return None
    try:
        session = _TERMS.decode(pod.metadata.annotations.get(TERMS, ""))
    except msgspec.DecodeError:
        return None
    return session if session.session_id == pod.metadata.labels.get(SESSION) else None


def open_session_of(pod: Pod, now: float) -> SharedSession | None:
    """The same, if calls may be made. `now` is on the wall clock."""
    session = None if pod.is_ending else session_of(pod)
    return session if session is not None and now < session.expires_at else None


def is_over(pod: Pod, now: float) -> bool:
    """To be deleted by whoever sees it: its time is over, or it has ended by itself. Terms that we cannot read are
    left to the pod's own deadline."""
    if pod.owner != manifest.SESSIONS or pod.metadata.deletion_timestamp is not None:
        return False
    session = session_of(pod)
    return pod.has_ended or (session is not None and now >= session.expires_at + LATE_SECONDS)
