"""What a pod says of the session that it is, which every replica reads alike, and when such a pod is to go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pool import RunLimits
from pool.kube import manifest
from pool.kube.owners import _others
from pool.kube.pods import Pod
from pool.kube.session_key import SessionKey
from pool.kube.session_pods import (
    DEADLINE_SLACK_SECONDS,
    LATE_SECONDS,
    SESSION,
    TERMS,
    is_over,
    made_of,
    open_session_of,
    session_of,
)
from pool.shared_session import SharedSession

NOW = 1_000_000.0
ENDS = NOW + 900
MINE = SharedSession(session_id="5e55", tenant="ana", expires_at=ENDS, protocol=3, limits=RunLimits(output_bytes=7))
ENDING: list[dict[str, Any]] = [{"phase": "Succeeded"}, {"phase": "Failed", "reason": "DeadlineExceeded"}]
EVICTED = {"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True"}]}


def pod(session: SharedSession = MINE, status: dict[str, Any] | None = None, **changed: Any) -> Pod:
    """As the API server has it, once it was patched."""
    patched = made_of(session, age_seconds=3.0, now=NOW)["metadata"]
    metadata = {"name": "p", "uid": "u", "resourceVersion": "1", **patched, **changed}
    return msgspec.convert({"metadata": metadata, "status": status or {"phase": "Running"}}, Pod)


def test_what_one_replica_writes_another_reads() -> None:
    assert session_of(pod()) == MINE
    assert open_session_of(pod(), NOW) == MINE


def test_it_is_no_replicas_and_nobody_is_taken_for_dead_for_it() -> None:
    another = pod(labels={manifest.OWNER: "another-1234"})
    assert _others([pod(), another], own="me") == {"another-1234"}


def test_nodes_that_could_go_stay_for_it() -> None:
    assert made_of(MINE, age_seconds=0, now=NOW)["metadata"]["annotations"][manifest.SAFE_TO_EVICT] == "false"


@pytest.mark.parametrize(
    ("age_seconds", "deadline_seconds"),
    [(3.2, 904 + DEADLINE_SLACK_SECONDS), (-50.0, 900 + DEADLINE_SLACK_SECONDS), (89_500.0, 90_000)],
)
def test_the_kubelet_ends_its_pod_after_its_time_and_never_later_than_before(
    age_seconds: float, deadline_seconds: float
) -> None:
    # Of the pod's whole life; one whose age is below nothing was made by a server whose clock is ahead.
    assert made_of(MINE, age_seconds=age_seconds, now=NOW)["spec"] == {"activeDeadlineSeconds": deadline_seconds}


@pytest.mark.parametrize(
    "strange",
    [
        pod(labels={manifest.OWNER: "another-1234"}),
        pod(labels={manifest.OWNER: manifest.SESSIONS, SESSION: "other"}),
        pod(annotations={}),
        pod(annotations={TERMS: '{"session_id": "5e55"}'}),
        pod(annotations={TERMS: "["}),
    ],
)
def test_what_is_no_session_or_of_another_age_is_none_and_is_left_alone(strange: Pod) -> None:
    assert (session_of(strange), open_session_of(strange, NOW), is_over(strange, NOW + 10**6)) == (None, None, False)


def test_a_later_release_may_say_more() -> None:
    said = msgspec.json.decode(pod().metadata.annotations[TERMS])
    text = msgspec.json.encode({**said, "colour": "red"}).decode()
    assert session_of(pod(annotations={TERMS: text})) == MINE


def test_after_its_time_no_call_is_made_and_a_little_later_it_is_swept() -> None:
    assert (open_session_of(pod(), ENDS), is_over(pod(), ENDS)) == (None, False)
    assert not is_over(pod(), ENDS + LATE_SECONDS - 0.1)
    assert is_over(pod(), ENDS + LATE_SECONDS)


@pytest.mark.parametrize("status", ENDING)
def test_one_that_has_ended_by_itself_is_swept_at_once(status: dict[str, Any]) -> None:
    assert (open_session_of(pod(status=status), NOW), is_over(pod(status=status), NOW)) == (None, True)


def test_one_that_ended_is_swept_whatever_it_says() -> None:
    assert is_over(pod(annotations={}, status=ENDING[0]), NOW)


def test_one_that_is_evicted_takes_no_calls_and_may_end_the_one_that_runs() -> None:
    assert (open_session_of(pod(status=EVICTED), NOW), is_over(pod(status=EVICTED), NOW)) == (None, False)


def test_one_that_is_being_deleted_is_not_deleted_again() -> None:
    ending = pod(deletionTimestamp="2026-01-01T00:00:00Z")
    assert (open_session_of(ending, NOW), is_over(ending, NOW + 10**6)) == (None, False)


# --- the key ---


def test_a_pod_knows_what_fits_its_token_and_not_the_token() -> None:
    key = SessionKey(b"k" * 32)
    assert len({key.token("a"), key.proof("a"), key.token("b"), SessionKey(b"l" * 32).token("a")}) == 4
    assert key.token("a") == SessionKey(b"k" * 32).token("a")
    assert b"kkkk" not in repr(key).encode()
