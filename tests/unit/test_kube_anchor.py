"""The anchor: what it owns, and what is said on it; over an API server of which only the words are real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from pool import RunLimits, SandboxStartFailed
from pool.kube import ExecutorConfig, KubeBackend, KubePlan, backend
from pool.kube.manifest import Plan
from pool.kube.troubles import ClusterError
from tests.fakes.clock import in_virtual_time, until

ANCHOR = {"metadata": {"name": "anchor", "uid": "uid-of-anchor", "resourceVersion": "1"}}
NO_PODS = {"metadata": {"resourceVersion": "1"}, "items": []}
OWNED = ("pods", "leases")
KINDS = (*OWNED, "events")


class ApiServer:
    """Has an anchor, or none; takes whatever it is given, and shows nothing of it again."""

    def __init__(self, *, has_anchor: bool = True) -> None:
        self.given: dict[str, Any] = {}
        """The last one of each kind."""
        self.has_anchor = has_anchor

    async def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: bytes = b"", content: str = ""
    ) -> bytes:
        last = path.rpartition("/")[2]
        if last == "anchor" and self.has_anchor:
            return msgspec.json.encode(ANCHOR)
        if method == "POST":
            self.given[last] = msgspec.json.decode(body)
            made = {**self.given[last]["metadata"], "uid": "u", "resourceVersion": "1"}
            return msgspec.json.encode({"metadata": made})
        if method == "GET" and last in KINDS:
            return msgspec.json.encode(NO_PODS)
        raise ClusterError(404, "NotFound", "not found")

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str], *, silence_seconds: float) -> AsyncIterator[Any]:
        yield self

    async def iter_any(self) -> AsyncIterator[bytes]:
        await anyio.sleep_forever()
        yield b""

    async def close(self) -> None: ...


async def told(server: ApiServer, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, Any]:
    """What the server is given by a backend that makes a pod and has something to tell."""

    async def connected(kubeconfig: str | None) -> ApiServer:
        return server

    monkeypatch.setattr(backend, "connect", connected)
    config = ExecutorConfig(**{"namespace": "n", "image": "i", "pool": "p", "anchor": "anchor", **changed})
    under_test = KubeBackend(KubePlan(pods=Plan(config=config, limits=RunLimits()), replica="r"))
    async with under_test.run(), anyio.create_task_group() as tasks:
        under_test.held("quota", "there is none left")
        tasks.start_soon(make_one, under_test)
        await until(lambda: set(KINDS if server.has_anchor else OWNED) <= server.given.keys())
        tasks.cancel_scope.cancel()
    return server.given


async def make_one(under_test: KubeBackend) -> None:
    await under_test.create("s", on_lost=lambda: None, on_cut=lambda: None, limits=RunLimits())


def owners(given: dict[str, Any]) -> list[list[str]]:
    """Of the pod, and of the Lease."""
    found = [given[kind]["metadata"].get("ownerReferences", []) for kind in OWNED]
    return [[each["uid"] for each in references] for references in found]


@in_virtual_time
async def test_it_owns_the_pods_and_the_lease_and_events_are_on_it() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        given = await told(ApiServer(), monkeypatch)
    assert owners(given) == [["uid-of-anchor"]] * 2
    assert given["events"]["involvedObject"]["uid"] == "uid-of-anchor"


@in_virtual_time
async def test_where_it_is_to_own_nothing_events_are_on_it_all_the_same() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        given = await told(ApiServer(), monkeypatch, set_owner_references=False)
    assert owners(given) == [[], []]
    event = given["events"]
    assert (event["involvedObject"]["uid"], event["reason"]) == ("uid-of-anchor", "NoSandboxQuota")


@pytest.mark.parametrize("anchor", ["anchor", ""])
@in_virtual_time
async def test_where_it_is_to_own_nothing_it_may_be_missing(anchor: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        given = await told(ApiServer(has_anchor=False), monkeypatch, set_owner_references=False, anchor=anchor)
    assert owners(given) == [[], []]
    assert "events" not in given


@in_virtual_time
async def test_where_it_is_to_own_the_pods_it_may_not_be_missing() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(SandboxStartFailed, match="n/anchor") as failed:
        await told(ApiServer(has_anchor=False), monkeypatch)
    assert failed.value.reason == "anchor"
