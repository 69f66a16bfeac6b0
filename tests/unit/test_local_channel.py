"""A channel over a socket: everything arrives, every end is a lost sandbox, and closing it harms nobody else."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint

from pool.errors import SandboxLost
from pool.local.sandbox import SocketChannel

SECONDS = 20.0


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[SocketChannel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = SocketChannel(ours)
    with anyio.fail_after(SECONDS), theirs:
        yield channel, theirs
        channel.close()


async def lost(channel: SocketChannel, told: list[str]) -> None:
    with pytest.raises(SandboxLost) as error:
        await channel.receive()
    told.append(str(error.value))


async def test_what_is_said_arrives():
    async with connected() as (channel, other):
        other.send(b"hello")
        assert await channel.receive() == b"hello"


async def test_more_than_fits_is_sent_as_it_is_read():
    data = bytes(range(256)) * 8192
    read = bytearray()
    async with connected() as (channel, other), anyio.create_task_group() as tasks:
        other.setblocking(False)
        tasks.start_soon(channel.send, data)
        while len(read) < len(data):
            await anyio.wait_readable(other)
            read += other.recv(1 << 16)
    assert read == data


def test_two_event_loops_do_not_read_each_others_words():
    async def read_back(word: bytes) -> bool:
        async with connected() as (channel, other):
            for _ in range(2000):
                other.send(word * 50_000)
                if set(await channel.receive()) != set(word):
                    return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(lambda word: anyio.run(read_back, word), (b"a", b"b")))


async def test_the_end_of_the_stream_is_a_lost_sandbox():
    told: list[str] = []
    async with connected() as (channel, other):
        other.send(b"last words")
        other.close()
        assert await channel.receive() == b"last words"
        await lost(channel, told)
    assert told == ["the sandbox's channel has ended"]


async def test_saying_something_to_nobody_is_a_lost_sandbox():
    async with connected() as (channel, other):
        other.close()
        with pytest.raises(SandboxLost, match="Broken pipe"):
            await channel.send(b"x")


async def test_whoever_waits_is_told_when_it_is_closed():
    told: list[str] = []
    async with connected() as (channel, _), anyio.create_task_group() as tasks:
        tasks.start_soon(lost, channel, told)
        await checkpoint()
        channel.close()
    assert told == ["the sandbox was ended"]


async def test_whoever_has_the_same_descriptor_next_is_left_alone():
    # A waiter that was cancelled after the close would otherwise take the loop's reader away from it.
    async with connected() as (channel, _), anyio.create_task_group() as tasks:
        number = channel._socket.fileno()
        tasks.start_soon(lost, channel, [])
        await checkpoint()
        channel.close()
        async with connected() as (next_channel, next_other):
            assert next_channel._socket.fileno() == number
            tasks.start_soon(_say_soon, next_other)
            assert await next_channel.receive() == b"for the next one"


async def _say_soon(other: socket.socket) -> None:
    await checkpoint()
    await checkpoint()
    other.send(b"for the next one")


async def test_a_receive_that_was_cancelled_loses_nothing():
    async with connected() as (channel, other):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.receive()
        other.send(b"later")
        assert await channel.receive() == b"later"


async def test_closing_twice_is_closing_once():
    async with connected() as (channel, _):
        channel.close()
        channel.close()
