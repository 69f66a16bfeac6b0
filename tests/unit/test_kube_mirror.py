"""The copy of the pods is what the server has, whatever was missed on the way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pool.kube.mirror import Change, Expired, Mirror, Page, WatchFailed, page


def pod(uid: str, version: int, **status: Any) -> dict[str, Any]:
    metadata = {"name": f"name-of-{uid}", "uid": uid, "resourceVersion": str(version), "managedFields": [{}]}
    return {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n", "containers": []}, "status": status}


def listing(*pods: dict[str, Any], version: int, more: str = "") -> Page:
    metadata = {"resourceVersion": str(version), "continue": more}
    return page(json.dumps({"kind": "PodList", "metadata": metadata, "items": pods}).encode())


def line(kind: str, told: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": told}).encode()


def uids(changes: list[Change]) -> list[tuple[str | None, str | None]]:
    return [
        (each.old.metadata.uid if each.old else None, each.new.metadata.uid if each.new else None) for each in changes
    ]


def test_a_list_in_pages_is_one_list() -> None:
    mirror = Mirror()
    changes = mirror.listed([listing(pod("a", 1), version=5, more="x"), listing(pod("b", 2), version=6)])
    assert uids(changes) == [(None, "a"), (None, "b")]
    assert (set(mirror.pods), mirror.version) == ({"a", "b"}, "6")


def test_what_vanished_while_nobody_watched_is_deleted_at_the_next_list() -> None:
    mirror = Mirror()
    mirror.listed([listing(pod("a", 1), pod("b", 2), pod("c", 3), version=5)])
    assert uids(mirror.listed([listing(pod("b", 2), pod("c", 7), pod("d", 8), version=9)])) == [
        ("a", None),
        ("c", "c"),
        (None, "d"),
    ]


def test_the_same_name_with_another_uid_is_another_pod() -> None:
    mirror = Mirror()
    mirror.listed([listing(pod("a", 1), version=1)])
    again = pod("b", 2)
    again["metadata"]["name"] = "name-of-a"
    assert uids(mirror.listed([listing(again, version=2)])) == [("a", None), (None, "b")]


def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    mirror = Mirror()
    mirror.listed([listing(pod("a", 1), version=1)])
    bookmark = {"kind": "Pod", "metadata": {"resourceVersion": "77", "creationTimestamp": None}, "spec": {}}
    assert mirror.heard(line("BOOKMARK", bookmark)) is None
    assert (set(mirror.pods), mirror.version) == ({"a"}, "77")


def test_a_deletion_of_what_is_not_known_is_no_news() -> None:
    assert Mirror().heard(line("DELETED", pod("a", 3))) is None


def test_a_forgotten_version_is_listed_anew_and_any_other_error_goes_on_from_it() -> None:
    mirror = Mirror()
    mirror.listed([listing(version=4)])
    with pytest.raises(WatchFailed, match="500 InternalError"):
        mirror.heard(line("ERROR", {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd"}))
    assert mirror.version == "4"
    with pytest.raises(Expired):
        mirror.heard(line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}))
    assert mirror.version is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"type":"ADDED"}', b'{"type":"ADDED","object":{}}'])
def test_what_is_no_event_is_a_decode_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        Mirror().heard(text)


def test_what_the_pool_decides_by_is_read() -> None:
    mirror = Mirror()
    waiting = {"name": "main", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    mirror.heard(line("ADDED", pod("a", 1, phase="Pending", containerStatuses=[waiting])))
    state = mirror.pods["a"].status.container_statuses[0].state
    assert state.waiting is not None
    assert state.waiting.reason == "ErrImagePull"


@pytest.mark.parametrize(
    ("changed", "ready", "ending"),
    [
        ({}, False, False),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, True, False),
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False, False),
        ({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}}, False, True),
        ({"status": {"phase": "Failed", "reason": "Evicted"}}, False, True),
    ],
)
def test_ready_and_ending_are_told_apart(changed: dict[str, Any], ready: bool, ending: bool) -> None:
    mirror = Mirror()
    mirror.heard(line("ADDED", {**pod("a", 1), **changed}))
    assert (mirror.pods["a"].is_ready, mirror.pods["a"].is_ending) == (ready, ending)


def test_a_deleted_pod_is_ending_before_it_is_gone() -> None:
    mirror, deleted = Mirror(), pod("a", 2)
    deleted["metadata"]["deletionTimestamp"] = "2026-11-23T00:00:00Z"
    mirror.heard(line("MODIFIED", deleted))
    assert mirror.pods["a"].is_ending


class Server(RuleBasedStateMachine):
    """A server whose pods come and go, and a watch that breaks off now and then and goes on from its version."""

    def __init__(self) -> None:
        super().__init__()
        self.version, self.pods, self.history = 1, {}, []  # type: ignore[var-annotated]
        self.mirror, self.told = Mirror(), {}  # type: ignore[var-annotated]

    def _happen(self, kind: str, uid: str) -> None:
        self.version += 1
        self.history.append((self.version, line(kind, pod(uid, self.version))))

    def _take(self, changes: list[Change]) -> None:
        for change in changes:
            uid = (change.new or change.old).metadata.uid  # type: ignore[union-attr]
            assert self.told.get(uid) == (change.old.metadata.resource_version if change.old else None)
            self.told[uid] = change.new.metadata.resource_version if change.new else None

    @rule(uid=st.sampled_from("abc"))
    def a_pod_changes(self, uid: str) -> None:
        self._happen("MODIFIED" if uid in self.pods else "ADDED", uid)
        self.pods[uid] = self.version

    @rule(uid=st.sampled_from("abc"))
    @precondition(lambda self: self.pods)
    def a_pod_goes(self, uid: str) -> None:
        if self.pods.pop(uid, None):
            self._happen("DELETED", uid)

    @rule()
    def listed(self) -> None:
        pods = [pod(uid, version) for uid, version in self.pods.items()]
        self._take(self.mirror.listed([listing(*pods, version=self.version)]))

    @rule(forgotten=st.booleans())
    def watched(self, forgotten: bool) -> None:
        if self.mirror.version is None:
            return self.listed()
        if forgotten:
            with pytest.raises(Expired):
                self.mirror.heard(line("ERROR", {"code": 410}))
            return self.listed()
        for version, told in list(self.history):
            if version > int(self.mirror.version):
                self._take([change] if (change := self.mirror.heard(told)) else [])
        return None

    @invariant()
    def what_was_told_is_what_is_known(self) -> None:
        known = {uid: pod.metadata.resource_version for uid, pod in self.mirror.pods.items()}
        assert known == {uid: version for uid, version in self.told.items() if version}

    def teardown(self) -> None:
        self.watched(forgotten=False)
        assert {uid: int(pod.metadata.resource_version) for uid, pod in self.mirror.pods.items()} == self.pods


TestServer = Server.TestCase
