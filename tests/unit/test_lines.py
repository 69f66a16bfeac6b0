"""Which channels of a session are closed: those that nobody uses, and only where there is a reason."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from sandbox_runtime import lines, outbox, wire
from sandbox_runtime.line import Line, through_the_door
from sandbox_runtime.polling import FOR_EVER, Loop


@pytest.fixture
def ends() -> Iterator[list[socket.socket]]:
    """The other ends of all lines."""
    opened: list[socket.socket] = []
    yield opened
    for each in opened:
        each.close()


def door_line(ends: list[socket.socket], *, used_at: float = 0.0, proved: bool = True) -> Line:
    ours, theirs = socket.socketpair()
    ends.append(theirs)
    line = through_the_door(ours, 7)
    line.attach(Loop(), lambda *_: None, lambda _: None)
    line.is_proved, line.used_at = proved, used_at
    return line


def own_line() -> Line:
    """Of the exec that has become the session's supervisor: an unshared session has no other."""
    channel = outbox.Channel(0, 1)
    return Line(channel, wire.Reader(wire.FROM_BROKER), outbox.Outbox(channel), proved=True)


def test_a_knocker_goes_before_any_that_has_shown_the_token(ends):
    proved, first, second = door_line(ends), door_line(ends, proved=False), door_line(ends, proved=False)
    assert lines.to_spare([proved, first, second], [], for_bridge=True) is first


def test_a_bridge_takes_the_place_of_the_longest_unused(ends):
    new, old = door_line(ends, used_at=2.0), door_line(ends, used_at=1.0)
    assert lines.to_spare([own_line(), new, old], [], for_bridge=True) is old


def test_a_guest_that_knocks_takes_nobodys_place(ends):
    assert lines.to_spare([door_line(ends), door_line(ends)], [], for_bridge=False) is None


def test_one_that_has_a_call_is_neither_spare_nor_forsaken(ends):
    line = door_line(ends)
    assert lines.to_spare([line], [line], for_bridge=True) is None
    assert lines.forsaken_at([line], [line]) == FOR_EVER


def test_the_longest_unused_is_forsaken_first(ends):
    found = [door_line(ends, used_at=2.0), door_line(ends, used_at=1.0), door_line(ends, proved=False)]
    assert lines.forsaken_at(found, []) == 1.0 + lines.FORSAKEN_SECONDS
    assert lines.idle(found, [])[0] is found[1]


def test_the_execs_own_channel_is_never_forsaken():
    assert lines.forsaken_at([own_line()], []) == FOR_EVER


def test_a_word_either_way_is_use(ends):
    line = door_line(ends)
    before = time.monotonic()
    line.say(wire.Pong(nonce=1))
    assert line.used_at >= before
    line.used_at = 0.0
    ends[0].send(wire.Writer().line(wire.Ping(nonce=1)))
    line._receive()
    assert line.used_at >= before
