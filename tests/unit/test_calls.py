"""A call of a session that has ended: its files are told as its channel takes them, and nothing waits for one that
takes none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sandbox_runtime import beneath, calls, run, wire
from sandbox_runtime.calls import Call, Command
from sandbox_runtime.line import Line


class FakeLine:
    def __init__(self, *, room: int) -> None:
        self.is_open = True
        self.said: list[wire.Message] = []
        self._room = room

    def has_room(self) -> bool:
        return len(self.said) < self._room

    def say(self, message: wire.Message, run_id: str) -> None:
        self.said.append(message)

    def close(self) -> None:
        self.is_open = False


def piece(path: str, *, last: bool = True) -> wire.File:
    return wire.File(path=path, data=b"x", last=last)


def ended(line: FakeLine, steps: Iterator[wire.File | None] | None = None) -> Call:
    """A call that is over, with that to tell."""
    call = Command(cast(Line, line), "run", wire.Shell(timeout_ms=1, wait_ms=1), "true")
    call.collect(run.killed("timeout"), {})
    call._steps, call._until = steps, time.monotonic()
    return call


def test_one_without_files_is_told_though_its_channel_is_full() -> None:
    line = FakeLine(room=0)
    assert ended(line).tell()
    assert line.is_open


def test_files_wait_for_room() -> None:
    line = FakeLine(room=2)
    call = ended(line, iter([piece("a"), None, piece("b"), piece("c")]))
    assert not call.tell()
    line._room = 9
    assert call.tell()
    assert line.said == [piece("a"), piece("b"), piece("c")]


def test_steps_that_bring_nothing_are_taken_a_slice_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(calls, "SLICE_SECONDS", 10)
    call = ended(FakeLine(room=9), iter([None] * 15))
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert not call.tell()
    assert call.tell()


def test_one_that_is_given_up_ends_the_file_that_is_open() -> None:
    line = FakeLine(room=1)
    call = ended(line, iter([piece("a", last=False), piece("a")]))
    assert not call.tell()
    call.give_up()
    assert call.tell()
    assert line.said == [piece("a", last=False), wire.File(path="a", data=b"", last=True)]


@pytest.mark.parametrize(("late_seconds", "is_open"), [(-5.0, True), (5.0, False)])
def test_a_channel_that_takes_nothing_is_closed_in_the_end(late_seconds: float, is_open: bool) -> None:
    line = FakeLine(room=0)
    call: Any = ended(line, iter([piece("a")]))
    call._until = time.monotonic() - calls.STALLED_SECONDS - late_seconds
    assert call.tell() is not is_open
    assert line.is_open is is_open


def test_what_a_program_has_waited_is_taken_from_the_time_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(run, "Run", lambda *_: SimpleNamespace(start=lambda *_: None))
    monkeypatch.setattr(beneath, "shared_tree", lambda: None)
    asked = wire.Run(args=[], env={}, last_line_interactive=False, timeout_ms=1000, collect_ms=8000)
    inputs = SimpleNamespace(stdin=b"", settle=lambda: 0)
    program = calls.Program(cast(Line, FakeLine(room=1)), "run", asked, cast(Any, inputs))
    assert program.begins_by == 104.0
    clock.now = 103.0
    program.prepare()
    program.begin(cast(Any, SimpleNamespace(pipes=None)), {}, cast(Any, None), cast(Any, None))
    clock.now = 104.0
    program.collect(run.killed("timeout"), {"returned_files": 1, "file_bytes": 1, "returned_bytes": 1})
    assert program._until == 104.0 + 8.0 - 3.0
