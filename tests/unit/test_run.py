"""One run, with real pipes and the test in the program's place."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_runtime import child, run, wire
from sandbox_runtime.gauges import LONG_RUN_SECONDS
from sandbox_runtime.polling import Loop

LIMITS = {"output_bytes": 1000, "output_kill_bytes": 50_000, "memory_bytes": 2**20, "processes": 10, "inodes": 10}
FAR = 2**40


class Gauges:
    """Says what the test says."""

    def __init__(self) -> None:
        self.used_bytes = 0
        self.at_the_process_limit = False
        self.too_many_files = False
        self.kernel_has_killed = False
        self.stood_back = 0
        self.look_after_seconds = float("inf")

    def alarms(self) -> list[int]:
        return []

    def first_look_seconds(self) -> float:
        return self.look_after_seconds

    def next_look_seconds(self, used_bytes: int, limit_bytes: int) -> float:
        return self.look_after_seconds

    def memory_bytes(self, deadline: float) -> int:
        return self.used_bytes

    def has_hit_the_process_limit(self, limit: int) -> bool:
        return self.at_the_process_limit

    def has_too_many_files(self, limit: int) -> bool:
        return self.too_many_files

    def stand_back(self) -> None:
        self.stood_back += 1

    def was_killed_by_the_kernel(self) -> bool:
        return self.kernel_has_killed


class Stage:
    """A run, and the program's ends of its pipes."""

    def __init__(self) -> None:
        pipes, theirs = run.open_pipes()
        self._ours = [getattr(pipes, name) for name in child.Order.names]
        self.ends = dict(zip(child.Order.names, theirs, strict=True))
        self.gauges = Gauges()
        self.loop = Loop()
        self.said = {"stdout": b"", "stderr": b""}
        self.run = run.Run(pipes, LIMITS, self.gauges, self._pass_on)  # type: ignore[arg-type]

    def _pass_on(self, stream: str, data: bytes) -> None:
        assert data
        self.said[stream] += data

    def start(self, stdin: bytes = b"", timeout_ms: int = FAR) -> None:
        self.run.start({"args": ["a"], "env": {"B": "c"}, "echo": True}, timeout_ms, stdin, self.loop)

    def write(self, name: str, data: bytes) -> None:
        """Into a pipe, with the run reading as long as there is something."""
        left = memoryview(data)
        while left:
            left = left[os.write(self.ends[name], left[:4096]) :]
            self.turn()

    def turn(self) -> None:
        """Whoever is ready now is called."""
        self.loop.turn(time.monotonic())

    def close_end(self, name: str) -> None:
        os.close(self.ends.pop(name))

    def close(self) -> None:
        for descriptor in [*self._ours, *self.ends.values()]:
            try:
                os.close(descriptor)
            except OSError:  # the run has closed it
                continue


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


@pytest.fixture
def running(stage: Stage) -> Stage:
    stage.start()
    return stage


# --- the status on the control pipe ---


def status_of(said: bytes) -> tuple[int, set[str]] | None:
    """What the grammar says, spelled out: D, one to three digits up to 255, perhaps a space and names with commas."""
    number, _, names = said[1:].partition(b" ")
    digits = b"0123456789"
    if said[:1] != b"D" or not 1 <= len(number) <= 3 or any(byte not in digits for byte in number) or int(number) > 255:
        return None
    if any(byte not in b"abcdefghijklmnopqrstuvwxyz_," for byte in names):
        return None
    return int(number), set(names.decode().split(",")) & set(wire.RESOURCES)


likely_names = st.lists(st.sampled_from([*wire.RESOURCES, "", "nonsense", "Disk"]), max_size=5).map(",".join)
likely = st.builds(
    lambda first, number, between, names, end: f"{first}{number}{between}{names}{end}".encode(),
    st.sampled_from(["D", "D", "D", "A", "", "DD", "d"]),
    st.sampled_from(["0", "7", "00", "007", "255", "256", "999", "1000", "-1", "", "+1", "1.", "²", "٣"]),
    st.sampled_from([" ", "", "  ", "\n", "\t"]),
    likely_names,
    st.sampled_from(["", "", "", "\n", "\0", " ", "D0"]),
)


@given(said=likely | st.binary(min_size=1, max_size=20))
@settings(deadline=None)
def test_only_the_grammar_is_a_status(said: bytes):
    stage = Stage()
    try:
        stage.start()
        stage.write("control", said)
        status = status_of(said)
        ended = stage.run.ended
        assert (ended is None) == (status is None)
        if ended is not None:
            assert (ended.exit_code, set(ended.limits_hit)) == status
            assert len(ended.limits_hit) == len(set(ended.limits_hit))
    finally:
        stage.close()


@pytest.mark.parametrize("said", [b"D0 ", b"D0", b"D255 disk,open_files", b"D7 inodes"])
def test_what_a_child_says_is_a_status(running: Stage, said: bytes):
    running.write("control", said)
    assert running.run.ended is not None
    assert running.run.ended.reason == "exited"


def test_after_nonsense_on_the_control_pipe_only_the_end_of_the_process_ends_the_run(running: Stage):
    running.write("control", b"nonsense")
    running.write("control", b"D3 disk")
    before = running.run.ended
    running.run.process_ended(3)
    ended = running.run.ended
    assert before is None
    assert ended is not None
    assert (ended.exit_code, ended.limits_hit) == (3, ["disk"])


def test_a_control_pipe_that_is_closed_says_nothing_and_is_not_asked_again(running: Stage):
    running.close_end("control")
    running.turn()
    running.turn()
    assert running.run.ended is None


def test_the_first_end_counts(running: Stage):
    running.write("control", b"D3 disk")
    first = running.run.ended
    running.write("control", b"D4 open_files")
    running.run.process_ended(-9)
    running.run.end(run.killed("cancelled"))
    assert running.run.ended is first
    assert first is not None
    assert (first.exit_code, first.limits_hit) == (3, ["disk"])


# --- other ends ---


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (0, ("exited", 0, None)),
        (255, ("exited", 255, None)),
        (-signal.SIGKILL, ("signal", 137, "SIGKILL")),
        (-signal.SIGSEGV, ("signal", 139, "SIGSEGV")),
        (-signal.SIGRTMIN - 1, ("signal", 128 + signal.SIGRTMIN + 1, None)),
    ],
)
def test_the_end_of_a_process_is_told_as_a_shell_tells_it(status: int, end: tuple[str, int, str | None]):
    ended = run.end_of_process(status)
    assert (ended.reason, ended.exit_code, ended.signal) == end


@pytest.mark.parametrize("number", range(1, signal.NSIG))
def test_the_end_by_any_signal_fits_into_an_outcome(number: int):
    ended = run.end_of_process(-number)
    assert wire.Outcome.checks["exit_code"](ended.exit_code)
    assert wire.Outcome.checks["signal"](ended.signal)


@pytest.mark.parametrize("reason", wire.REASONS)
def test_an_end_that_we_make_has_an_exit_code_unless_it_is_out_of_time_or_cancelled(reason: str):
    ended = run.killed(reason)
    assert (ended.exit_code is None) == (reason in ("timeout", "cancelled"))
    assert ended.signal == "SIGKILL"


@pytest.mark.parametrize(("kernel_has_killed", "reason"), [(True, "oom"), (False, "signal")])
def test_a_kill_is_for_want_of_memory_if_the_kernel_says_so(running: Stage, kernel_has_killed: bool, reason: str):
    running.gauges.kernel_has_killed = kernel_has_killed
    running.run.process_ended(-signal.SIGKILL)
    assert running.run.ended is not None
    assert (running.run.ended.reason, running.run.ended.exit_code) == (reason, 137)


def test_another_signal_is_no_want_of_memory(running: Stage):
    running.gauges.kernel_has_killed = True
    running.run.process_ended(-signal.SIGTERM)
    assert running.run.ended is not None
    assert running.run.ended.reason == "signal"


# --- clock and gauges ---


def test_time_is_up_when_it_is_up_and_not_before(stage: Stage):
    stage.start(timeout_ms=20)
    while (ended := stage.run.ended) is None:
        stage.loop.turn(stage.run.next_event())
        stage.run.look()
    assert ended.reason == "timeout"
    assert ended.at - stage.run.started >= 0.02


@pytest.mark.parametrize(
    ("used_bytes", "at_the_process_limit", "reason"),
    [(2**20, False, None), (2**20 + 1, False, "oom"), (0, True, "process_limit")],
)
def test_the_gauges_are_looked_at_when_it_is_time(
    stage: Stage, used_bytes: int, at_the_process_limit: bool, reason: str | None
):
    stage.gauges.look_after_seconds = 0.0
    stage.gauges.used_bytes, stage.gauges.at_the_process_limit = used_bytes, at_the_process_limit
    stage.start()
    stage.run.look()
    assert (stage.run.ended and stage.run.ended.reason) == reason


def test_a_program_that_runs_for_long_stands_back_once(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stage.start()
    stage.run.look()
    assert (stage.gauges.stood_back, stage.run.next_event()) == (0, now + LONG_RUN_SECONDS)
    now += LONG_RUN_SECONDS
    stage.run.look()
    stage.run.look()
    assert stage.gauges.stood_back == 1
    assert stage.run.next_event() > now


def test_the_gauges_are_not_looked_at_before(stage: Stage):
    stage.gauges.used_bytes = 2**30
    stage.start()
    stage.run.look()
    assert stage.run.ended is None


# --- output ---


@pytest.mark.parametrize(("written", "kept", "truncated"), [(999, 999, False), (1000, 1000, False), (1001, 1000, True)])
def test_output_is_kept_up_to_its_limit(running: Stage, written: int, kept: int, truncated: bool):
    running.write("stdout", b"x" * written)
    assert len(running.said["stdout"]) == kept
    assert running.run.truncated == {"stdout": truncated, "stderr": False}


def test_each_stream_has_a_limit_of_its_own(running: Stage):
    running.write("stdout", b"o" * 2000)
    running.write("stderr", b"e" * 900)
    assert running.said == {"stdout": b"o" * 1000, "stderr": b"e" * 900}


def test_a_program_that_writes_on_is_read_on(running: Stage):
    running.write("stdout", b"x" * 40_000)
    assert running.run.ended is None


def test_a_program_that_writes_far_too_much_is_ended(running: Stage):
    running.write("stderr", b"x" * 50_000)
    assert running.run.ended is not None
    assert running.run.ended.reason == "output_limit"


def test_what_is_in_the_pipes_at_the_end_is_taken_too(running: Stage):
    os.write(running.ends["stdout"], b"o" * 600)
    os.write(running.ends["stderr"], b"e" * 1200)
    running.run.drain(running.loop)
    assert running.said == {"stdout": b"o" * 600, "stderr": b"e" * 1000}
    assert running.run.truncated == {"stdout": False, "stderr": True}


def test_after_the_end_nothing_more_is_taken(running: Stage):
    running.run.drain(running.loop)
    for name in ("stdout", "stderr", "control"):
        os.write(running.ends[name], b"D0")
    running.turn()
    assert running.said == {"stdout": b"", "stderr": b""}
    assert running.run.ended is None


def test_a_stream_that_is_closed_is_not_asked_again(running: Stage):
    running.close_end("stdout")
    running.turn()
    running.write("stderr", b"goes on")
    assert running.said == {"stdout": b"", "stderr": b"goes on"}


# --- input ---


def test_the_request_goes_to_the_child_and_ends(running: Stage):
    with open(running.ends.pop("request"), "rb") as request:
        assert json.load(request) == {"args": ["a"], "env": {"B": "c"}, "echo": True}


def test_standard_input_arrives_whole_and_ends(stage: Stage):
    data = bytes(range(256)) * 4000
    stage.start(stdin=data)
    read = bytearray()
    os.set_blocking(stage.ends["stdin"], False)
    while len(read) < len(data):
        stage.turn()
        read += os.read(stage.ends["stdin"], 1 << 20)
    stage.turn()
    assert read == data
    assert os.read(stage.ends["stdin"], 1) == b""


def test_no_standard_input_ends_at_once(running: Stage):
    running.turn()
    assert os.read(running.ends["stdin"], 1) == b""


def test_a_program_that_closes_its_standard_input_gets_no_more(stage: Stage):
    stage.start(stdin=b"x" * 1_000_000)
    stage.close_end("stdin")
    stage.turn()
    stage.turn()
    stage.write("stdout", b"goes on")
    assert stage.said["stdout"] == b"goes on"


def test_a_child_that_died_before_its_request_is_told_by_its_status(stage: Stage):
    stage.close_end("request")
    stage.start()
    stage.run.process_ended(-signal.SIGKILL)
    assert stage.run.ended is not None
    assert stage.run.ended.reason == "signal"
