"""A loop over descriptors: who is ready gets called, and nobody waits longer than asked for."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

import pytest

from sandbox_runtime.polling import WRITABLE, Loop

FAR_SECONDS = 600.0
"""A test that waited for it would be seen."""


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fill(self) -> None:
        os.write(self.writing, b"x")

    def close(self) -> None:
        for end in (self.reading, self.writing):
            try:
                os.close(end)
            except OSError:
                continue


@pytest.fixture
def pipes() -> Iterator[tuple[Pipe, Pipe]]:
    made = Pipe(), Pipe()
    yield made
    for pipe in made:
        pipe.close()


def far() -> float:
    return time.monotonic() + FAR_SECONDS


def test_who_is_ready_is_called_and_nobody_else(pipes: tuple[Pipe, Pipe]):
    called: list[str] = []
    loop = Loop()
    loop.on(pipes[0].reading, lambda: called.append("first"))
    loop.on(pipes[1].reading, lambda: called.append("second"))
    pipes[1].fill()
    loop.turn(far())
    assert called == ["second"]


def test_callbacks_of_one_turn_are_called_in_the_order_of_registration(pipes: tuple[Pipe, Pipe]):
    # A zygote counts on it: it reaps before it forks.
    called: list[str] = []
    loop = Loop()
    loop.on(pipes[1].reading, lambda: called.append("first"))
    loop.on(pipes[0].reading, lambda: called.append("second"))
    for pipe in pipes:
        pipe.fill()
    loop.turn()
    assert called == ["first", "second"]


def test_who_is_taken_off_by_another_in_the_same_turn_is_not_called(pipes: tuple[Pipe, Pipe]):
    called: list[str] = []
    loop = Loop()
    loop.on(pipes[0].reading, lambda: loop.off(pipes[1].reading))
    loop.on(pipes[1].reading, lambda: called.append("second"))
    for pipe in pipes:
        pipe.fill()
    loop.turn()
    assert called == []


def test_taking_off_twice_or_what_was_never_on_is_nothing(pipes: tuple[Pipe, Pipe]):
    loop = Loop()
    loop.on(pipes[0].reading, lambda: None)
    loop.off(pipes[0].reading)
    loop.off(pipes[0].reading)
    loop.off(pipes[1].reading)


def test_the_last_registration_counts(pipes: tuple[Pipe, Pipe]):
    called: list[str] = []
    loop = Loop()
    loop.on(pipes[0].reading, lambda: called.append("before"))
    loop.on(pipes[0].reading, lambda: called.append("after"))
    pipes[0].fill()
    loop.turn()
    assert called == ["after"]


def test_the_end_of_a_stream_is_something_to_read(pipes: tuple[Pipe, Pipe]):
    called: list[bytes] = []
    loop = Loop()
    loop.on(pipes[0].reading, lambda: called.append(os.read(pipes[0].reading, 1)))
    os.close(pipes[0].writing)
    loop.turn(far())
    assert called == [b""]


def test_room_to_write_is_told_and_so_is_a_reader_that_went_away(pipes: tuple[Pipe, Pipe]):
    called: list[str] = []
    loop = Loop()
    loop.on(pipes[0].writing, lambda: called.append("room"), WRITABLE)
    loop.turn(far())
    os.close(pipes[0].reading)
    loop.turn(far())
    assert called == ["room", "room"]


@pytest.mark.parametrize("until", [0.0, -1.0, -math.inf])
def test_a_time_that_has_passed_is_not_waited_for(pipes: tuple[Pipe, Pipe], until: float):
    loop = Loop()
    loop.on(pipes[0].reading, lambda: None)
    loop.turn(until)


def test_a_wait_ends_at_its_time_when_nothing_happens(pipes: tuple[Pipe, Pipe]):
    loop = Loop()
    loop.on(pipes[0].reading, lambda: None)
    until = time.monotonic() + 0.02
    loop.turn(until)
    assert time.monotonic() >= until - 0.001


@pytest.mark.parametrize("until", [1e18, math.inf])
def test_a_time_that_never_comes_is_no_error(pipes: tuple[Pipe, Pipe], until: float):
    called: list[str] = []
    loop = Loop()
    loop.on(pipes[0].reading, lambda: called.append("called"))
    pipes[0].fill()
    loop.turn(until)
    assert called == ["called"]
