"""Orders and answers over a socket: whatever becomes of either side, nobody hangs and no descriptor is lost."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from pool.errors import SandboxStartFailed
from pool.local.control import Control
from sandbox_runtime import descriptors
from tests.fakes.cancelling import Suspensions

SECONDS = 20.0


class Other:
    """The launcher's end, in the hands of the test."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.heard_why: list[str] = []

    def answer(self, *words: dict[str, object], own: int = 0) -> None:
        """Take an order for each of the words, and answer it; with so many descriptors."""
        for each in words:
            descriptors.receive(self._end)
            self.say(each, own)

    def say(self, words: dict[str, object], own: int = 0) -> None:
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(own)]
        descriptors.send(self._end, words, files)
        for file in files:
            os.close(file)

    def say_raw(self, data: bytes) -> None:
        self._end.send(data)

    def read_to_end(self) -> None:
        with pytest.raises(descriptors.PeerGone):
            descriptors.receive(self._end)

    def end(self) -> None:
        self._end.close()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Control, Other]]:
    before = sorted(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other = Other(theirs)
    control = Control(ours, "the nursery", other.heard_why.append)
    with anyio.fail_after(SECONDS):
        yield control, other
    control.close()
    other.end()
    assert sorted(os.listdir("/proc/self/fd")) == before


def done(count: int) -> list[dict[str, object]]:
    return [{"done": "it"}] * count


async def order(control: Control, expected_descriptors: int = 0) -> list[int]:
    return await control.order({"do": "it"}, seconds=2 * SECONDS, expected_descriptors=expected_descriptors)


async def test_an_order_gets_its_answer_with_its_descriptors():
    async with connected() as (control, other), anyio.create_task_group() as tasks:
        got: list[int] = []

        async def ask() -> None:
            got.extend(await order(control, 2))

        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        other.answer({"done": "it"}, own=2)
        while len(got) < 2:
            await anyio.lowlevel.checkpoint()
        for descriptor in got:
            os.close(descriptor)


async def test_orders_at_once_get_their_answers_in_turn():
    said: list[object] = []

    async with connected() as (control, other), anyio.create_task_group() as tasks:

        async def ask(number: int) -> None:
            await control.order({"number": number}, seconds=SECONDS)
            said.append(number)

        for number in range(5):
            tasks.start_soon(ask, number)
        await anyio.lowlevel.checkpoint()
        other.answer(*done(5))
    assert said == [0, 1, 2, 3, 4]


async def test_a_failure_is_raised_with_its_text():
    async with connected() as (control, other), anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(SandboxStartFailed, match="the launcher failed: no more processes"):
                await order(control)

        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        other.answer({"failed": "no more processes"}, own=1)


@pytest.mark.parametrize("sent", [0, 2])
async def test_an_answer_with_other_descriptors_than_expected_is_a_failure_and_they_are_closed(sent: int):
    async with connected() as (control, other), anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(SandboxStartFailed, match=f"{sent} descriptors, not 1"):
                await order(control, 1)

        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        other.answer({"done": "it"}, own=sent)


@pytest.mark.parametrize("arrives", ["before", "after"])
async def test_the_answer_to_a_cancelled_order_goes_to_nobody_else(arrives: str):
    # "before": it is there, but whoever asked has not run yet when it is cancelled.
    async with connected() as (control, other), anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(_cancel_around_the_answer, other, scope, arrives)
            await order(control, 1)
        assert scope.cancelled_caught
        got: list[int] = []

        async def ask() -> None:
            got.extend(await order(control, 1))

        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        other.answer({"done": "it"}, own=1)
        while not got:
            await anyio.lowlevel.checkpoint()
        os.close(got[0])


async def _cancel_around_the_answer(other: Other, scope: anyio.CancelScope, arrives: str) -> None:
    if arrives == "after":
        scope.cancel()
    other.answer({"done": "it"}, own=1)
    if arrives == "before":
        scope.cancel()


@pytest.mark.parametrize("strike_at", [1, 2, 3])
async def test_a_task_that_is_cancelled_at_any_suspension_loses_no_descriptor(strike_at: int):
    async with connected() as (control, other):
        suspensions = Suspensions(strike_at)

        async def ask() -> None:
            with anyio.CancelScope() as scope:
                suspensions.strike = scope.cancel
                for descriptor in await suspensions.drive(order(control, 1)):
                    os.close(descriptor)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            other.answer({"done": "it"}, own=1)


async def test_without_an_answer_in_time_the_other_end_is_lost_for_everybody():
    failures: list[str] = []

    async with connected() as (control, other):

        async def ask(seconds: float) -> None:
            with pytest.raises(SandboxStartFailed) as failure:
                await control.order({"do": "it"}, seconds=seconds)
            failures.append(str(failure.value))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, 2 * SECONDS)
            tasks.start_soon(ask, 0.01)
        assert failures == ["the nursery gave no answer within 0.01 s"] * 2
        assert other.heard_why == ["the nursery gave no answer within 0.01 s"]
        with pytest.raises(SandboxStartFailed, match="takes no orders"):
            await order(control)


async def test_when_the_other_end_ends_everybody_is_told():
    async with connected() as (control, other), anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(SandboxStartFailed, match="the nursery has ended"):
                await order(control)

        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        other.end()
    assert other.heard_why == ["the nursery has ended"]


async def test_the_end_is_heard_by_somebody_who_asked_for_nothing():
    async with connected() as (_, other):
        other.end()
        while not other.heard_why:
            await anyio.lowlevel.checkpoint()


async def test_what_nobody_asked_for_is_dropped():
    async with connected() as (control, other):
        other.say({"done": "something else"}, own=3)
        while not control.is_closed and _has_news(control):
            await anyio.lowlevel.checkpoint()
        assert not control.is_closed


def _has_news(control: Control) -> bool:
    try:
        return bool(control._peer.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def test_garbage_is_the_end():
    async with connected() as (_, other):
        other.say_raw(b"\xff\x00 not JSON")
        while not other.heard_why:
            await anyio.lowlevel.checkpoint()
        assert other.heard_why[0].startswith("the nursery failed")


async def test_what_is_finished_still_answers_and_is_not_lost():
    async with connected() as (control, other), anyio.create_task_group() as tasks:
        tasks.start_soon(order, control)
        await anyio.lowlevel.checkpoint()
        control.finish()
        other.answer({"done": "it"})
        other.read_to_end()
        other.end()
        while not control.is_closed:
            await anyio.lowlevel.checkpoint()
    assert other.heard_why == []


async def test_an_announcement_is_waited_for_without_an_order():
    async with connected() as (control, other):
        other.say({"loaded": ["numpy"]})
        assert await control.announcement(seconds=SECONDS) == {"loaded": ["numpy"]}


async def test_closing_it_is_no_loss():
    async with connected() as (control, other):
        control.close()
        control.close()
    assert other.heard_why == []
