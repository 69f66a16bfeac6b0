"""The stream of an exec as a channel: whom its end is told."""

from __future__ import annotations

import anyio

from pool.kube.streams import ExecChannel
from tests.fakes.clock import in_virtual_time


class Slow:
    """A stream whose other end takes its time to say goodbye."""

    async def close(self) -> None:
        await anyio.sleep(0.5)


class Owner:
    def __init__(self) -> None:
        self.told = 0
        self.channel = ExecChannel(Slow(), self.hear)  # type: ignore[arg-type]  # as much as is used

    def hear(self) -> None:
        self.told += 1


@in_virtual_time
async def test_its_owner_is_told_of_its_end_once() -> None:
    owner = Owner()
    async with anyio.create_task_group() as tasks:
        for why in ("it broke", "it was closed"):
            tasks.start_soon(owner.channel.close, why)
    assert owner.told == 1


@in_virtual_time
async def test_one_that_is_abandoned_while_it_closes_is_no_news() -> None:
    owner = Owner()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(owner.channel.close, "it broke")
        await anyio.sleep(0.1)
        owner.channel.abandon()
    assert owner.told == 0
