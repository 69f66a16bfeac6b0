"""A replica's own channel to a session: there when a call wants it, whatever has become of the last one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from pool.errors import ChannelLost, PoolSaturated, PoolTimeout, SandboxLost, SessionGone
from pool.kube import session_channel
from pool.kube.pods import Pod
from pool.kube.session_channel import SessionChannel
from pool.session import MOST_WAITING
from pool.settings import RunLimits
from pool.shared_session import SharedSession
from sandbox_runtime import wire
from tests.fakes.clock import in_virtual_time
from tests.fakes.scripted import Scripted, well
from tests.fakes.sinks import KeepingSink

POD = msgspec.convert({"metadata": {"name": "p", "uid": "u", "resourceVersion": "1"}}, Pod)
TERMS = SharedSession(session_id="s", tenant="t", expires_at=1e12, protocol=3, limits=RunLimits())
PATIENCE_SECONDS = 10.0


class Stream(Scripted):
    """As of an exec: it has an owner, who is told of its end."""

    def __init__(self, answer: Any, on_end: Callable[[], None]) -> None:
        super().__init__(answer)
        self.on_end: Callable[[], None] | None = on_end
        self.is_closed = False

    def abandon(self) -> None:
        self.on_end = None

    async def close(self, why: str) -> None:
        self.is_closed = True

    def end(self) -> None:
        if self.on_end is not None:
            self.on_end()


class Execs:
    """In place of execs: each with the next answer, or the error of its attempt; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.streams: list[Stream] = []

    async def __call__(self, _house: object, name: str, on_end: Callable[[], None]) -> Stream:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.streams.append(Stream(answer, on_end))
        return self.streams[-1]


@pytest.fixture
def execs(monkeypatch: pytest.MonkeyPatch) -> Execs:
    found = Execs(well)
    monkeypatch.setattr(session_channel, "opened_channel", found)
    return found


def channel() -> SessionChannel:
    return SessionChannel(None, POD, TERMS, "token")  # type: ignore[arg-type]  # only for execs, of which there are none


async def called(channel: SessionChannel) -> bytes:
    sink, deadline = KeepingSink(), anyio.current_time() + PATIENCE_SECONDS
    async with channel.used(deadline) as session:
        await session.shell("true", timeout_ms=1000, sink=sink, deadline=deadline)
    return bytes(sink.streams["stdout"])


def test_calls_share_one_and_each_is_said_to_somebody(execs: Execs) -> None:
    @in_virtual_time
    async def told() -> None:
        mine = channel()
        assert [await called(mine) for _ in range(3)] == [b"out"] * 3
        call = ["stage", "shell"]
        assert [each.kinds() for each in execs.streams] == [["prove", *(["ping", *call] * 3)[1:]]]

    told()


def test_it_is_unused_once_nobody_has_used_it_for_long_enough(execs: Execs) -> None:
    @in_virtual_time
    async def told() -> None:
        mine = channel()
        async with mine.used(anyio.current_time() + PATIENCE_SECONDS):
            await anyio.sleep(1000)
            assert not mine.is_unused(anyio.current_time())
        assert not mine.is_unused(anyio.current_time())
        await anyio.sleep(1)
        assert mine.is_unused(anyio.current_time())
        await mine.drop()
        assert execs.streams[0].is_closed
        assert await called(mine) == b"out"
        assert len(execs.streams) == 2

    told()


def test_one_that_nobody_is_behind_any_more_is_replaced_before_a_call_is_said(execs: Execs) -> None:
    def deaf(message: wire.Message) -> Any:
        return [] if isinstance(message, wire.Ping) else well(message)

    execs.answers = [deaf, well]

    @in_virtual_time
    async def told() -> None:
        mine = channel()
        assert [await called(mine) for _ in range(2)] == [b"out"] * 2
        assert execs.streams[0].kinds() == ["prove", "stage", "shell", "ping"]
        assert execs.streams[1].kinds() == ["prove", "stage", "shell"]
        assert execs.streams[0].is_closed

    told()


def test_one_that_has_ended_is_replaced(execs: Execs) -> None:
    @in_virtual_time
    async def told() -> None:
        mine = channel()
        await called(mine)
        execs.streams[0].end()
        assert await called(mine) == b"out"
        assert len(execs.streams) == 2

    told()


def test_whoever_waits_behind_a_call_that_loses_it_is_told_that_nothing_has_run(execs: Execs) -> None:
    execs.answers = [lambda message: [] if isinstance(message, wire.Shell) else well(message), well]

    @in_virtual_time
    async def told() -> None:
        mine, errors = channel(), []

        async def call() -> None:
            try:
                await called(mine)
            except (PoolTimeout, SandboxLost) as error:
                errors.append(type(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            tasks.start_soon(call)
            await anyio.sleep(1)
            await mine.drop()
        assert PoolTimeout in errors
        assert execs.streams[0].kinds().count("shell") == 1
        assert await called(mine) == b"out"

    told()


def test_an_attempt_that_fails_is_made_again(execs: Execs) -> None:
    execs.answers = [ChannelLost("no"), lambda _: [wire.Busy()], lambda _: None, well]

    @in_virtual_time
    async def told() -> None:
        assert await called(channel()) == b"out"

    told()


@pytest.mark.parametrize("answer", [ChannelLost("no"), lambda _: None, lambda _: []])
def test_what_cannot_be_opened_by_the_deadline_says_so_and_nothing_has_run(execs: Execs, answer: Any) -> None:
    execs.answers = [answer]

    @in_virtual_time
    async def told() -> None:
        began = anyio.current_time()
        with pytest.raises(PoolTimeout, match="no channel to the session could be had in"):
            await called(channel())
        assert anyio.current_time() - began <= PATIENCE_SECONDS

    told()


def test_where_there_is_no_pod_nothing_is_tried_again(execs: Execs) -> None:
    execs.answers = [SandboxLost("its pod is gone")]

    @in_virtual_time
    async def told() -> None:
        with pytest.raises(SessionGone, match="gone"):
            await called(channel())

    told()


def test_only_so_many_wait_for_it_to_open(execs: Execs) -> None:
    execs.answers = [lambda _: []]

    @in_virtual_time
    async def told() -> None:
        mine, refused = channel(), 0

        async def call() -> None:
            nonlocal refused
            try:
                await called(mine)
            except PoolSaturated:
                refused += 1
            except PoolTimeout:
                pass

        async with anyio.create_task_group() as tasks:
            for _ in range(MOST_WAITING + 3):
                tasks.start_soon(call)
        assert refused == 2

    told()
