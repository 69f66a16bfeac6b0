"""Descriptors on their way to another process, and those that must not be left open."""

from __future__ import annotations

import array
import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_runtime import descriptors


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


def opened() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- sending and receiving ---


def test_a_message_arrives_with_working_descriptors(pair: tuple[socket.socket, socket.socket]):
    reading, writing = os.pipe()
    descriptors.send(pair[0], {"do": "it", "number": 1}, [writing, reading])
    message, (their_writing, their_reading) = descriptors.receive(pair[1])
    os.write(their_writing, b"through")
    assert message == {"do": "it", "number": 1}
    assert os.read(their_reading, 100) == b"through"
    for descriptor in (reading, writing, their_reading, their_writing):
        os.close(descriptor)


def test_messages_stay_apart_and_in_order(pair: tuple[socket.socket, socket.socket]):
    for number in range(5):
        descriptors.send(pair[0], {"number": number})
    assert [descriptors.receive(pair[1]) for _ in range(5)] == [({"number": number}, []) for number in range(5)]


def test_what_is_received_does_not_outlive_an_exec(pair: tuple[socket.socket, socket.socket]):
    descriptors.send(pair[0], {}, [0])
    _, (received,) = descriptors.receive(pair[1])
    assert not os.get_inheritable(received)
    os.close(received)


def test_the_end_is_told(pair: tuple[socket.socket, socket.socket]):
    pair[0].close()
    with pytest.raises(descriptors.PeerGone):
        descriptors.receive(pair[1])


def test_what_was_said_before_the_end_is_heard(pair: tuple[socket.socket, socket.socket]):
    descriptors.send(pair[0], {"last": "words"})
    pair[0].close()
    assert descriptors.receive(pair[1]) == ({"last": "words"}, [])
    with pytest.raises(descriptors.PeerGone):
        descriptors.receive(pair[1])


def test_an_end_with_words_unread_is_an_end_too(pair: tuple[socket.socket, socket.socket]):
    descriptors.send(pair[1], {"not": "read"})
    pair[0].close()
    with pytest.raises(descriptors.PeerGone):
        descriptors.receive(pair[1])


def test_sending_to_nobody_is_an_error(pair: tuple[socket.socket, socket.socket]):
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        descriptors.send(pair[0], {}, [0])


def test_nothing_to_receive_yet_is_told_where_nobody_waits(pair: tuple[socket.socket, socket.socket]):
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        descriptors.receive(pair[1])


def test_a_message_that_is_too_long_is_lost_alone_with_its_descriptors(pair: tuple[socket.socket, socket.socket]):
    before = opened()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]).tobytes())]
    pair[0].sendmsg([b'{"x":"' + b"x" * descriptors.MAX_MESSAGE_BYTES + b'"}'], rights)
    descriptors.send(pair[0], {"next": 1})
    with pytest.raises(descriptors.Truncated):
        descriptors.receive(pair[1])
    assert descriptors.receive(pair[1]) == ({"next": 1}, [])
    assert opened() == before


def test_more_descriptors_than_may_come_are_closed_again(pair: tuple[socket.socket, socket.socket]):
    before = opened()
    descriptors.send(pair[0], {}, [0] * (descriptors.MAX_DESCRIPTORS + 1))
    with pytest.raises(descriptors.Truncated):
        descriptors.receive(pair[1])
    assert opened() == before


def test_as_many_descriptors_as_may_come_do(pair: tuple[socket.socket, socket.socket]):
    descriptors.send(pair[0], {}, [0] * descriptors.MAX_DESCRIPTORS)
    _, received = descriptors.receive(pair[1])
    assert len(received) == descriptors.MAX_DESCRIPTORS
    for descriptor in received:
        os.close(descriptor)


def test_descriptors_that_this_process_may_not_open_are_no_reason_to_keep_the_others(
    pair: tuple[socket.socket, socket.socket],
):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken = [os.dup(0) for _ in range(highest + 8 - opened())]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 3, hard))
    try:
        before = opened()
        descriptors.send(pair[0], {}, [0] * 10)
        with pytest.raises(descriptors.Truncated):
            descriptors.receive(pair[1])
        assert opened() == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_garbage_is_an_error_and_its_descriptors_are_closed(pair: tuple[socket.socket, socket.socket]):
    before = opened()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]).tobytes())]
    pair[0].sendmsg([b"not JSON"], rights)
    with pytest.raises(ValueError, match="Expecting value"):
        descriptors.receive(pair[1])
    assert opened() == before


# --- closing ---


def left_open(keep: list[int], also_open: list[int]) -> list[int]:
    """In a process of its own: what is still open there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _close_and_tell(keep, also_open, writing)
    os.close(writing)
    told = descriptors.read_all(reading)
    os.waitpid(pid, 0)
    return [int(number) for number in told.split()]


def _close_and_tell(keep: list[int], also_open: list[int], writing: int) -> None:
    try:
        told = os.dup2(writing, 900)
        for number in also_open:
            os.dup2(0, number)
        descriptors.close_all_but([*keep, told])
        found = [number for number in range(1000) if number != told and _is_open(number)]
        os.write(told, " ".join(map(str, found)).encode())
    finally:
        os._exit(0)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_all_but_those_to_keep_are_closed():
    assert left_open([0, 1, 2, 500], [500, 501, 600]) == [0, 1, 2, 500]


def test_neighbours_are_kept():
    # Between them is an empty range: close_range(2) would take its end of -1 for the last descriptor there is.
    assert left_open([0, 1, 2, 100, 101, 102], [100, 101, 102, 103]) == [0, 1, 2, 100, 101, 102]


def test_nothing_to_keep_is_everything_to_close():
    assert left_open([], [700]) == []


def test_what_is_to_be_kept_need_not_be_open_nor_be_named_once_or_in_order():
    assert left_open([300, 1, 0, 1, 299], [300]) == [0, 1, 300]


@given(keep=st.sets(st.integers(0, 40)), also_open=st.sets(st.integers(3, 40)))
@settings(max_examples=30, deadline=None)
def test_whatever_is_kept_is_what_is_left(keep: set[int], also_open: set[int]):
    left = set(left_open(sorted(keep), sorted(also_open)))
    assert keep & also_open <= left <= keep


def test_descriptors_above_a_lowered_limit_are_closed_too():
    pid = os.fork()
    if pid == 0:
        _exit_with(_closes_above_the_limit)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _closes_above_the_limit() -> bool:
    high = os.dup2(0, 900)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    descriptors.close_all_but([0, 1, 2])
    return not _is_open(high)


def _exit_with(holds: Callable[[], bool]) -> None:
    status = 1
    try:
        status = 0 if holds() else 1
    finally:
        os._exit(status)


def test_everything_is_read_and_closed():
    reading, writing = os.pipe()
    os.write(writing, b"all of it")
    os.close(writing)
    assert descriptors.read_all(reading) == b"all of it"
    assert not _is_open(reading)
