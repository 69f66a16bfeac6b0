"""Valid frames in any order, and bytes of any kind: the supervisor ends or speaks the protocol, and never hangs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool import RunLimits
from pool.transcript import Transcript
from sandbox_runtime import wire
from tests.contract.dialogue import Dialogue, Speaking, speaking, stage
from tests.local_backends import RUN, Frame, start
from tests.property import messages

LIMITS = RunLimits(workspace_bytes=4 * 2**20, inodes=100)
LAST_PING = wire.Ping(nonce=2**53 - 1)
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

PROGRAMS = [
    b"print(1)\n",
    b"",
    b"import sys; sys.exit(3)\n",
    b"open('made', 'w').write('x')\n",
    b"while True: pass\n",
    b"(",
]


@pytest.fixture(scope="module")
def broker() -> Iterator[Speaking]:
    with speaking(LIMITS) as speaks:
        yield speaks


class Supervised:
    """What a supervisor makes of each frame, in a few lines: it goes on, it has started a run, or it is gone."""

    def __init__(self) -> None:
        self.is_gone = False
        self.has_started = False
        self.pings: list[int] = []
        self.was_cancelled = False
        self._run = ""
        self._open: tuple[str, str] | None = None
        self._ended: set[tuple[str, str]] = set()

    def hear(self, run: str, message: wire.Message) -> None:
        match message:
            case wire.Ping():
                self.pings.append(message.nonce)
            case wire.Cancel():
                self.was_cancelled |= self.has_started and run == self._run
            case _ if self.has_started or not run or run != (self._run or run):
                self.is_gone = True
            case wire.Stage():
                self._run = run
                self._stage(message)
            case wire.Run():
                self._run = run
                self.has_started = ("code", "") in self._ended and self._open is None
                self.is_gone = not self.has_started

    def _stage(self, piece: wire.Stage) -> None:
        name = piece.target, piece.path
        self.is_gone = (
            name != (self._open or name) or name in self._ended or (piece.target == "file") != bool(piece.path)
        )
        self._open = None if piece.last else name
        if piece.last:
            self._ended.add(name)

    def allows(self, frames: list[Frame]) -> bool:
        """Whether that is all protocol: pongs to what was pinged, and the transcript of one run."""
        pongs = [message.nonce for _, message in frames if isinstance(message, wire.Pong)]
        transcript = Transcript(self._run, LIMITS)
        for run, message in frames:
            if isinstance(message, wire.Pong):
                assert run == ""
            elif isinstance(message, wire.Outcome) and message.reason == "cancelled":
                assert self.was_cancelled
                assert run == self._run
                assert message.exit_code is None
            else:
                transcript.hear(run, message)
        return pongs == self.pings[: len(pongs)]


pieces = st.one_of(
    st.builds(stage, st.just("code"), st.sampled_from(PROGRAMS), last=st.sampled_from([True, True, True, False])),
    st.builds(stage, st.just("stdin"), st.binary(max_size=20), last=st.booleans()),
    st.builds(
        stage, st.just("file"), st.binary(max_size=20), path=st.sampled_from(["a", "b", "c/d"]), last=st.booleans()
    ),
)
starts = st.builds(start, timeout_ms=st.sampled_from([1, 50, 300]), collect_ms=st.sampled_from([0, 1000]))
likely = pieces | starts | messages.from_broker["ping"] | st.just(wire.Cancel())
run_ids = st.sampled_from([RUN] * 12 + ["", "another"])
dialogues = st.lists(st.tuples(run_ids, likely), max_size=8)
good_beginnings = st.sampled_from([[], [(RUN, stage("code", program)) for program in PROGRAMS[:1]]])


@given(beginning=good_beginnings, frames=dialogues)
@EXAMPLES
def test_any_valid_frames_in_any_order(broker: Speaking, beginning: list[Frame], frames: list[Frame]):
    model = Supervised()
    with broker.greeted() as speaks:
        for run, message in [*beginning, *frames, ("", LAST_PING)]:
            speaks.say(message, run=run)
            model.hear(run, message)
            if model.is_gone:
                break
        heard = heard_from(speaks, model)
    assert model.allows(heard)


def heard_from(speaks: Dialogue, model: Supervised) -> list[Frame]:
    """All of it, which is: up to its end, or up to the last pong and the outcome of what it has started."""
    frames: list[Frame] = []
    while not is_done(frames, model):
        frame = speaks.hear()
        if frame is None:
            assert model.is_gone, frames
            return frames
        frames.append(frame)
    return frames


def is_done(frames: list[Frame], model: Supervised) -> bool:
    if model.is_gone:
        return False
    has_outcome = any(isinstance(message, wire.Outcome) for _, message in frames)
    return ("", wire.Pong(nonce=LAST_PING.nonce)) in frames and has_outcome == model.has_started


@given(data=st.binary(min_size=1, max_size=300), ends=st.booleans())
@EXAMPLES
def test_bytes_of_any_kind_are_no_frames(broker: Speaking, data: bytes, ends: bool):
    with broker.greeted() as speaks:
        speaks.say_raw(data + b"\n" if ends else data)
        speaks.end_saying()
        assert speaks.rest() == []


@given(message=st.one_of(*messages.from_broker.values()), run=messages.runs, cut=st.integers(0, 10_000))
@EXAMPLES
def test_a_frame_that_is_cut_anywhere_is_no_frame(broker: Speaking, message: wire.Message, run: str, cut: int):
    with broker.greeted() as speaks:
        line = speaks.writer.line(message, run)
        speaks.say_raw(line[: cut % (len(line) - 1)] + b"\n")
        assert speaks.rest() == []


@given(message=st.one_of(*messages.from_broker.values()), run=messages.runs)
@EXAMPLES
def test_any_message_at_all_as_the_first(broker: Speaking, message: wire.Message, run: str):
    with broker.greeted() as speaks:
        speaks.say(message, run=run)
        speaks.end_saying()
        said = speaks.rest()
    if isinstance(message, wire.Ping):
        assert said == [wire.Pong(nonce=message.nonce)]
    elif isinstance(message, wire.Reach):
        assert said == [wire.Reached(targets=[])]
    elif isinstance(message, wire.Session):
        assert all(isinstance(each, wire.Opened) for each in said)
    else:
        assert all(isinstance(each, wire.Refused) for each in said)
