"""A supervisor that a guest owns. What it may say in a run is in tests/faults; here it breaks the framing itself."""

from __future__ import annotations

import json

import pytest

from pool import RemoteProtocolError
from sandbox_runtime import wire
from tests.fakes.backend import with_one
from tests.fakes.clock import in_virtual_time
from tests.fakes.pools import CountingObserver, full, holds_together, nothing_is_left, pool_of, ran, the_ready_one
from tests.fakes.supervisor import FakeSupervisor, outcome

OUTPUT = wire.Output(stream="stdout", data=b"hi")
A_FILE = wire.File(path="a.txt", data=b"a", last=True)


class Liar(FakeSupervisor):
    """Answers a run with lines that are made by hand."""

    def run(self, run: str, message: wire.Run) -> None:
        self.channel.say(b"".join(self.lines(run)))

    def lines(self, run: str) -> list[bytes]:
        raise NotImplementedError

    def line(self, message: wire.Message, run: str, **changed: object) -> bytes:
        """A frame as it should be, but for what is changed in its envelope or its body."""
        frame = json.loads(self.writer.line(message, run))
        for name, value in changed.items():
            (frame if name in frame else frame["body"])[name] = value
        return json.dumps(frame).encode() + b"\n"


class SaysTwoOutcomes(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [self.line(outcome(), run), self.line(outcome(exit_code=7), run)]


class GoesOnAfterItsOutcome(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [self.line(outcome(), run), b"{}\n"]


class SaysAnEndlessLine(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [b" " * wire.MAX_LINE_BYTES]


class SaysALineTooMuch(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [self.line(OUTPUT, run, data="A" * wire.MAX_LINE_BYTES)]


class RepeatsANumber(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [self.line(OUTPUT, run), self.line(OUTPUT, run, seq=1), self.line(outcome(), run, seq=2)]


class SkipsANumber(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [self.line(OUTPUT, run, seq=5)]


class SpeaksOfNoRun(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [self.line(outcome(), "")]


class HasDeepThoughts(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [b"[" * 100_000 + b"]" * 100_000 + b"\n"]


class SaysAKeyTwice(Liar):
    def lines(self, run: str) -> list[bytes]:
        return [self.line(outcome(), run).replace(b'"v":', b'"v": 1, "kind": "hello", "w":')]


def with_body(message: wire.Message, **changed: object) -> type[Liar]:
    class SaysSo(Liar):
        def lines(self, run: str) -> list[bytes]:
            return [self.line(message, run, **changed), self.line(outcome(), run)]

    return SaysSo


LIES: dict[str, type[Liar]] = {
    "two outcomes": SaysTwoOutcomes,
    "more after the outcome": GoesOnAfterItsOutcome,
    "an endless line": SaysAnEndlessLine,
    "a line too long": SaysALineTooMuch,
    "a number twice": RepeatsANumber,
    "a number left out": SkipsANumber,
    "no run": SpeaksOfNoRun,
    "deep nesting": HasDeepThoughts,
    "a key twice": SaysAKeyTwice,
    "a path out of the workspace": with_body(A_FILE, path="../../etc/cron.d/x"),
    "an absolute path": with_body(A_FILE, path="/etc/passwd"),
    "a path with NUL": with_body(A_FILE, path="a\0b"),
    "half a character": with_body(A_FILE, path="\ud800"),
    "no base64": with_body(OUTPUT, data="?"),
    "base64 of another spelling": with_body(OUTPUT, data="aGk\n="),
    "an unknown stream": with_body(OUTPUT, stream="stdlog"),
    "a number that is true": with_body(outcome(), exit_code=True),
    "a number that is huge": with_body(outcome(), duration_ms=1 << 80),
    "a number with a fraction": with_body(outcome(), exit_code=0.5),
    "no number at all": with_body(outcome(), duration_ms=float("nan")),
    "a limit of its own": with_body(outcome(), limits_hit=["<script>"]),
    "a thousand skipped files": with_body(outcome(), files_skipped=[["x", "too_many"]] * 1000),
    "a field of its own": with_body(outcome(), retryable=True),
}


@pytest.mark.parametrize("lie", LIES)
@in_virtual_time
async def test_a_lie_is_answered_with_an_error_and_the_sandbox_replaced(lie: str):
    backend, observer = with_one(LIES[lie]), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        liar = the_ready_one(pool, backend).name
        with pytest.raises(RemoteProtocolError) as error:
            await ran(pool)
        assert len(str(error.value)) <= 256
        holds_together(pool, backend)
        await full(pool)
        assert liar not in backend.live
        assert (await ran(pool))[0].exit_code == 0
    assert observer.words("retired")[1] == "misbehaved"
    nothing_is_left(pool, backend)
