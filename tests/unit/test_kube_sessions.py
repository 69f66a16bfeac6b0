"""Sessions in one replica's copy of the cluster: found, waited for, counted, ended and swept."""

from __future__ import annotations

import json
import time
import uuid
from types import SimpleNamespace
from typing import Any

import anyio
import msgspec
import pytest

from pool.errors import PoolTimeout, SessionGone
from pool.kube.mirror import Change, Mirror
from pool.kube.pods import Pod
from pool.kube.session_key import SessionKey
from pool.kube.session_pods import SESSION, made_of
from pool.kube.sessions import LOOKED_UP_AT_ONCE, SWEEP_SECONDS, KubeSessions
from pool.kube.troubles import ClusterError
from pool.settings import RunLimits
from pool.shared_session import SharedSession
from tests.fakes.clock import in_virtual_time


def named(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def session(name: str, tenant: str = "ana", *, left_seconds: float = 600.0) -> SharedSession:
    ends = time.time() + left_seconds
    return SharedSession(session_id=named(name), tenant=tenant, expires_at=ends, protocol=3, limits=RunLimits())


def pod(shown: SharedSession, status: dict[str, Any] | None = None) -> Pod:
    metadata = made_of(shown, age_seconds=1.0, now=time.time())["metadata"]
    name = {"name": f"pod-{shown.session_id}", "uid": f"uid-{shown.session_id}", "resourceVersion": "1"}
    return msgspec.convert({"metadata": {**name, **metadata}, "status": status or {"phase": "Running"}}, Pod)


def deleted(name: str) -> str:
    return f"DELETE pod-{named(name)} uid-{named(name)}"


class Replica:
    """What one has: an API server that says yes unless it is away, and a copy that shows what the test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_away = False
        self.unseen: list[Pod] = []
        """Which the watch does not show."""
        self.reflector = SimpleNamespace(mirror=Mirror(), is_current=True, synced=anyio.Event())
        self.reflector.synced.set()
        self.api = self
        self.sessions = KubeSessions(self, self.reflector, SessionKey(b"k" * 32))  # type: ignore[arg-type]  # as much as is used

    async def call(self, method: str, path: str, *, body: bytes = b"", query: dict[str, str] | None = None) -> bytes:
        if self.is_away:
            raise ClusterError(0, "", "the API server did not answer")
        if query is not None:
            wanted = query["labelSelector"].removeprefix(f"{SESSION}=")
            self.asked.append(f"{method} {wanted}")
            pods = [each for each in self.unseen if each.metadata.labels[SESSION] == wanted]
            return msgspec.json.encode({"metadata": {}, "items": pods})
        precondition = json.loads(body)["preconditions"]["uid"]
        self.asked.append(f"{method} {path} {precondition}")
        return b""

    def path(self, name: str = "", *rest: str) -> str:
        return name

    def shows(self, *pods: Pod) -> None:
        for each in pods:
            self.reflector.mirror.pods[each.metadata.uid] = each
            self.sessions.saw(Change(None, each))


@in_virtual_time
async def test_one_that_another_replica_has_just_made_is_waited_for() -> None:
    replica = Replica()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_later, replica, session("s"))
        found = await replica.sessions.find("ana", named("s"))
    assert found is not None
    assert found.session_id == named("s")


async def _later(replica: Replica, shown: SharedSession) -> None:
    await anyio.sleep(0.5)
    replica.shows(pod(session("other")))
    await anyio.sleep(0.4)
    replica.shows(pod(shown))


@in_virtual_time
async def test_anothers_takes_as_long_to_be_not_found_as_one_that_never_was() -> None:
    replica, taken = Replica(), []
    replica.shows(pod(session("theirs", "bob")))
    for name in ("theirs", "never"):
        began = anyio.current_time()
        assert await replica.sessions.find("ana", named(name)) is None
        taken.append(anyio.current_time() - began)
    assert taken[0] == taken[1]


@in_virtual_time
async def test_a_replica_that_sees_nothing_does_not_say_that_there_is_none() -> None:
    replica = Replica()
    replica.reflector.is_current = False
    with pytest.raises(PoolTimeout, match="cannot be watched"):
        await replica.sessions.find("ana", named("s"))
    replica.shows(pod(session("s")))
    assert await replica.sessions.find("ana", named("s")) is not None


@in_virtual_time
async def test_one_that_a_half_open_watch_does_not_show_is_no_missing_one() -> None:
    replica = Replica()
    replica.unseen = [pod(session("s")), pod(session("theirs", "bob")), pod(session("over", left_seconds=-1))]
    with pytest.raises(PoolTimeout, match="has not shown it here yet"):
        await replica.sessions.find("ana", named("s"))
    for name in ("theirs", "over", "never"):
        assert await replica.sessions.find("ana", named(name)) is None
    replica.is_away = True
    with pytest.raises(PoolTimeout, match="asked in vain"):
        await replica.sessions.find("ana", named("never"))


@pytest.mark.parametrize("text", ["", "s", "a,code-interpreter/owner=x", named("s").upper(), f"{named('s')}\n"])
@in_virtual_time
async def test_what_is_no_id_is_asked_of_nobody(text: str) -> None:
    replica, began = Replica(), anyio.current_time()
    assert await replica.sessions.find("ana", text) is None
    assert (replica.asked, anyio.current_time()) == ([], began)


@in_virtual_time
async def test_those_that_are_open_are_counted_and_no_others() -> None:
    replica = Replica()
    replica.shows(
        pod(session("a")), pod(session("b", "bob")), pod(session("c", left_seconds=-1)), pod(session("d"), ENDED)
    )
    assert {each.session_id for each in replica.sessions.every()} == {named("a"), named("b")}


ENDED = {"phase": "Succeeded"}


@in_virtual_time
async def test_one_that_was_ended_here_is_gone_before_the_copy_shows_it() -> None:
    replica, ending = Replica(), session("s")
    replica.shows(pod(ending))
    await replica.sessions.end(ending)
    assert replica.asked == [deleted("s")]
    assert (await replica.sessions.find("ana", named("s")), replica.sessions.every()) == (None, [])
    with pytest.raises(SessionGone):
        await replica.sessions.end(ending)


@in_virtual_time
async def test_one_that_cannot_be_ended_now_is_open_still() -> None:
    replica, ending = Replica(), session("s")
    replica.shows(pod(ending))
    replica.is_away = True
    with pytest.raises(PoolTimeout, match="could not be ended"):
        await replica.sessions.end(ending)
    assert len(replica.sessions.every()) == 1


@in_virtual_time
async def test_whatever_is_over_is_swept_by_whoever_sees_it_when_it_can() -> None:
    replica = Replica()
    replica.shows(pod(session("a")), pod(session("late", left_seconds=-60)), pod(session("ended"), ENDED))
    replica.is_away = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replica.sessions.run)
        await anyio.sleep(1.5 * SWEEP_SECONDS)
        replica.is_away = False
        await anyio.sleep(SWEEP_SECONDS)
        tasks.cancel_scope.cancel()
    assert sorted(replica.asked) == sorted([deleted("ended"), deleted("late")])


class Unused:
    """A channel that nobody uses, and that is slow to close."""

    def __init__(self) -> None:
        self.is_in_use = self.is_dropped = False

    def is_unused(self, since: float) -> bool:
        return not self.is_in_use

    async def drop(self) -> None:
        await anyio.sleep(1)
        self.is_dropped = True


@in_virtual_time
async def test_while_one_unused_channel_is_closed_others_may_be_called_through_or_lose_their_pod() -> None:
    replica = Replica()
    channels = {name: Unused() for name in ("first", "called", "gone", "last")}
    replica.sessions._channels.update(channels)  # type: ignore[arg-type]  # as much as is asked
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replica.sessions.run)
        await anyio.sleep(SWEEP_SECONDS + 0.5)
        channels["called"].is_in_use = True
        replica.sessions._channels.pop("gone")
        await anyio.sleep(2)
        tasks.cancel_scope.cancel()
    assert [name for name, each in channels.items() if each.is_dropped] == ["first", "last"]


@in_virtual_time
async def test_a_flood_of_ids_that_never_were_asks_the_api_server_a_few_at_once() -> None:
    replica, most = Replica(), 0
    answer, at_once = replica.call, 0

    async def slowly(*args: Any, **kwargs: Any) -> bytes:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await anyio.sleep(0.1)
        at_once -= 1
        return await answer(*args, **kwargs)

    replica.call = slowly  # type: ignore[method-assign]  # of this one
    async with anyio.create_task_group() as tasks:
        for serial in range(20):
            tasks.start_soon(replica.sessions.find, "ana", named(str(serial)))
    assert (most, len(replica.asked)) == (LOOKED_UP_AT_ONCE, 20)
