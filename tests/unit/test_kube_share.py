"""A pod becomes everybody's session by one patch, or stays its maker's, who then deletes it."""

from __future__ import annotations

import json
from typing import Any

import anyio
import msgspec
import pytest

from pool.errors import PoolTimeout
from pool.kube import manifest
from pool.kube.pods import Pod
from pool.kube.sandbox import SHARE_ATTEMPTS, KubeSandbox
from pool.kube.session_key import SessionKey
from pool.kube.session_pods import session_of
from pool.kube.troubles import ClusterError
from pool.settings import RunLimits
from pool.shared_session import SharedSession
from tests.fakes.clock import in_virtual_time

CONFLICT = ClusterError(409, "Conflict", "the object has been modified")
SESSION = SharedSession(session_id="s", tenant="ana", expires_at=1e12, protocol=3, limits=RunLimits())


def described(version: int) -> dict[str, Any]:
    labels = {manifest.OWNER: "maker-1234"}
    created = "2026-01-01T00:00:00Z"
    named = {"name": "p", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": {**named, "labels": labels, "creationTimestamp": created}}


class House:
    """A backend whose API server refuses so many patches, and shows what it has taken at once or never."""

    def __init__(self, *refusals: ClusterError, shows: bool = True) -> None:
        self.refusals, self._shows = list(refusals), shows
        self.asked: list[str] = []
        self.forgotten: list[str] = []
        self.api, self.session_key = self, SessionKey(b"k" * 32)
        self.version = 1
        self.sandbox = KubeSandbox("s1", msgspec.convert(described(1), Pod), self, self.lost, self.lost)  # type: ignore[arg-type]  # as much as is used

    def lost(self) -> None:
        raise AssertionError("nobody is to hear of it any more")

    def path(self, name: str = "", *rest: str) -> str:
        return name

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)

    async def call(self, method: str, path: str, *, body: bytes = b"", content: str = "") -> bytes:
        self.asked.append(method)
        if method == "PATCH":
            self._patch(json.loads(body))
        if method == "DELETE":
            self.sandbox.gone.set()
        return json.dumps(described(self.version)).encode()

    def _patch(self, change: dict[str, Any]) -> None:
        if self.refusals:
            self.version += 1
            raise self.refusals.pop(0)
        assert change["metadata"]["resourceVersion"] == str(self.version)
        assert change["metadata"]["uid"] == "u"
        if self._shows:
            shown = {**change, "metadata": {**described(9)["metadata"], **change["metadata"]}}
            self.shown = msgspec.convert(shown, Pod)
            self.sandbox.saw(self.shown)


@in_virtual_time
async def test_from_then_on_it_is_nobodys() -> None:
    house = House()
    await house.sandbox.share(SESSION)
    assert (house.asked, house.forgotten) == (["PATCH"], ["u"])
    assert session_of(house.shown) == SESSION
    house.sandbox.saw(None)
    await house.sandbox.destroy()
    assert house.asked == ["PATCH"]


@in_virtual_time
async def test_a_status_that_changes_meanwhile_is_read_again() -> None:
    house = House(CONFLICT, CONFLICT)
    await house.sandbox.share(SESSION)
    assert house.asked == ["PATCH", "GET", "PATCH", "GET", "PATCH"]


@pytest.mark.parametrize(
    "refusals", [[CONFLICT] * SHARE_ATTEMPTS, [ClusterError(0, "", "no answer")], [ClusterError(404, "NotFound", "")]]
)
def test_one_that_cannot_be_is_its_makers_still(refusals: list[ClusterError]) -> None:
    @in_virtual_time
    async def told() -> None:
        house = House(*refusals)
        with pytest.raises(PoolTimeout, match="could not be shown to other replicas"):
            await house.sandbox.share(SESSION)
        assert house.forgotten == []
        await house.sandbox.destroy()
        assert house.asked[-1] == "DELETE"

    told()


@in_virtual_time
async def test_whether_its_own_watch_shows_it_is_waited_for_and_not_for_long() -> None:
    house = House(shows=False)
    await house.sandbox.share(SESSION)
    assert (house.asked, house.forgotten) == (["PATCH"], ["u"])


@in_virtual_time
async def test_an_opener_who_leaves_meanwhile_leaves_no_session() -> None:
    house = House(shows=False)
    with anyio.move_on_after(0.5):
        await house.sandbox.share(SESSION)
    await house.sandbox.destroy()
    assert house.asked == ["PATCH", "DELETE"]


def test_a_pod_is_shared_only_where_replicas_have_a_key() -> None:
    house = House()
    assert house.sandbox.proof == SessionKey(b"k" * 32).proof("u")
    house.session_key = None  # type: ignore[assignment]  # as without a setting
    assert house.sandbox.proof == ""
