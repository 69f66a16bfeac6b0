"""A transport whose peer takes nothing is aborted, whether it was full or is being closed; one that shrinks is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from broker.connection import Connection
from broker.head_with_body import HeadWithBody
from broker.unread import UnreadWatch


class Unread(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 100
        self.is_aborted = False
        self.is_closed = False

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return self.bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.bytes += len(data)

    def close(self) -> None:
        """What is buffered keeps it open."""
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class Look:
    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """A loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.looks: list[Look] = []

    def call_later(self, _seconds: float, look: Callable[[], None]) -> Any:
        self.looks.append(Look(look))
        return self.looks[-1]

    def pass_time(self) -> None:
        due, self.looks = self.looks, []
        for each in due:
            if not each.is_cancelled:
                each.look()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def below() -> Unread:
    return Unread()


async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """No request comes."""


def watch_of(below: Unread, clock: Clock) -> UnreadWatch:
    return UnreadWatch(below, cast(asyncio.AbstractEventLoop, clock))


def test_a_buffer_that_nobody_empties_ends_its_connection(below: Unread, clock: Clock):
    watch_of(below, clock).begin()
    clock.pass_time()
    assert below.is_aborted


def test_a_buffer_that_shrinks_is_looked_at_again(below: Unread, clock: Clock):
    watch_of(below, clock).begin()
    below.bytes = 99
    clock.pass_time()
    assert not below.is_aborted
    clock.pass_time()
    assert below.is_aborted


def test_a_buffer_that_was_emptied_is_not_looked_at(below: Unread, clock: Clock):
    watch = watch_of(below, clock)
    watch.begin()
    watch.end()
    clock.pass_time()
    assert not below.is_aborted


def test_a_watch_that_is_on_is_not_put_off_by_beginning_again(below: Unread, clock: Clock):
    watch = watch_of(below, clock)
    watch.begin()
    watch.begin()
    assert len(clock.looks) == 1


def test_a_transport_that_is_being_closed_is_watched_however_little_is_left(below: Unread, clock: Clock):
    HeadWithBody(below, cast(asyncio.AbstractEventLoop, clock)).close()
    clock.pass_time()
    assert below.is_aborted


def test_what_is_left_for_a_client_that_ended_its_side_is_watched(below: Unread, clock: Clock):
    loop = cast(asyncio.AbstractEventLoop, clock)
    connection = Connection(uvicorn.Config(nothing, lifespan="off", log_config=None), ServerState(), {}, loop)
    connection.connection_made(below)
    connection.eof_received()
    clock.pass_time()
    assert below.is_aborted


def test_a_connection_that_is_lost_is_watched_no_more(below: Unread, clock: Clock):
    below.is_closed = True
    HeadWithBody(below, cast(asyncio.AbstractEventLoop, clock)).close()
    assert clock.looks == []


async def test_a_head_that_is_held_back_counts_and_goes_with_the_connection(below: Unread):
    transport = HeadWithBody(below, asyncio.get_running_loop())
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert transport.get_write_buffer_size() == 100 + 19
    transport.abort()
    assert (transport.get_write_buffer_size(), below.is_aborted) == (100, True)
