"""Sockets as the kernel lists them, and those in flight that it is given time to collect."""

from __future__ import annotations

import itertools
import socket
import time

import pytest

from sandbox_runtime import sockets

HEAD = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
DOOR = b"0000000000000000: 00000002 00000000 00010000 0001 01 %d @code-interpreter/zygote\n"
SILENT_DOOR = b"0000000000000000: 00000002 00000000 00000000 0001 01 %d @code-interpreter/zygote\n"
OURS = b"0000000000000000: 00000003 00000000 00000000 0001 03 40043 @code-interpreter/zygote\n"
NAMELESS = b"0000000000000000: 00000003 00000000 00000000 0001 03 40042\n"
OF_DATAGRAMS = NAMELESS.replace(b" 0001 ", b" 0002 ")
UNCONNECTED = NAMELESS.replace(b" 03 ", b" 01 ")
SPACED = b"0000000000000000: 00000002 00000000 00010000 0001 01 40044 /tmp/a name\n"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleep moves."""
    hands = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: hands[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: hands.__setitem__(0, hands[0] + seconds))
    return hands


def test_a_number_and_whether_one_listens_say_nothing():
    before = sockets.rows(HEAD + DOOR % 1 + NAMELESS)

    after = sockets.rows(HEAD + NAMELESS + SILENT_DOOR % 2)

    assert before == after == [[b"0001", b"01", b"@code-interpreter/zygote"], [b"0001", b"03"]]


def test_a_name_may_have_spaces():
    assert sockets.rows(HEAD + SPACED) == [[b"0001", b"01", b"/tmp/a name"]]


@pytest.mark.parametrize("more", [NAMELESS, OURS, OF_DATAGRAMS, UNCONNECTED])
def test_one_more_of_any_kind_shows(more: bytes):
    """SECURITY: a second one of a name, and one of none, carry as much as any."""
    listed = HEAD + DOOR % 1 + OURS + NAMELESS

    assert sockets.rows(listed) != sockets.rows(listed + more)


@pytest.mark.parametrize("kinds", [*itertools.combinations([NAMELESS, OF_DATAGRAMS, UNCONNECTED], 2)])
def test_one_kind_in_place_of_another_shows(kinds: tuple[bytes, bytes]):
    assert sockets.rows(HEAD + kinds[0]) != sockets.rows(HEAD + kinds[1])


def test_what_is_as_expected_takes_one_look_and_no_time(now: list[float]):
    looks = iter([[[b"0001"]]])

    assert sockets.settled(lambda: next(looks), [[b"0001"]]) == [[b"0001"]]

    assert now == [100.0]


def test_what_goes_in_its_time_is_not_there(now: list[float]):
    looks = iter([[[b"0001"]], [[b"0001"]], []])

    assert sockets.settled(lambda: next(looks), []) == []


def test_what_stays_is_found_when_the_time_is_up(now: list[float]):
    assert sockets.settled(lambda: [[b"0001"]], []) == [[b"0001"]]

    assert now[0] == pytest.approx(100.0 + sockets.COLLECT_SECONDS, abs=2 * sockets.LOOK_SECONDS)


def test_each_look_but_the_last_starts_the_collector(now: list[float], monkeypatch: pytest.MonkeyPatch):
    looks, started = iter([[[b"0001"]], [[b"0001"]], []]), []
    pair = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", lambda: started.append(pair()) or started[-1])  # type: ignore[func-returns-value]

    sockets.settled(lambda: next(looks), [])

    assert [end.fileno() for ends in started for end in ends] == [-1] * 4
