"""Supervisors that go wrong, each named for what it does. All else they do well."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sandbox_runtime import wire
from tests.fakes.supervisor import HELLO, FakeSupervisor, outcome


def hello(**changed: Any) -> wire.Hello:
    fields: dict[str, Any] = {**HELLO.fields(), **changed}
    return wire.Hello(**fields)


# --- before it is warm ---


class NeverSaysHello(FakeSupervisor):
    def start(self) -> None:
        pass


class SpeaksAnotherProtocol(FakeSupervisor):
    def start(self) -> None:
        self.say(hello(protocol=99))


class ClaimsRunsInHello(FakeSupervisor):
    """It has had a guest before, or lies."""

    def start(self) -> None:
        self.say(hello(runs=3))


class SaysHelloTwice(FakeSupervisor):
    def start(self) -> None:
        self.channel.say(self.writer.line(HELLO) + self.writer.line(HELLO))


class SpeaksBeforeHello(FakeSupervisor):
    def start(self) -> None:
        self.say(wire.Pong(nonce=0))
        self.say(HELLO)


class EndsBeforeHello(FakeSupervisor):
    def start(self) -> None:
        self.channel.end()


class SaysHelloInARun(FakeSupervisor):
    def start(self) -> None:
        self.say(HELLO, run="7f")


# --- of the release before: no fault ---

OLDER = wire.PROTOCOL - 1


class SpeaksTheVersionBefore(FakeSupervisor):
    """And knows no later one: as a real supervisor does, it ends at a frame of a version that it does not speak."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = wire.Writer(OLDER)

    def start(self) -> None:
        self.say(hello(protocol=OLDER))

    def hear(self, data: bytes) -> None:
        if {json.loads(line)["v"] for line in data.splitlines()} == {OLDER}:
            super().hear(data)
        else:
            self.channel.end()


# --- while idle ---


class DoesNotAnswerPings(FakeSupervisor):
    def ping(self, message: wire.Ping) -> None:
        self.pings += 1


class AnswersAnotherPing(FakeSupervisor):
    def ping(self, message: wire.Ping) -> None:
        self.say(wire.Pong(nonce=message.nonce + 1))


# --- in a run ---


class Scripted(FakeSupervisor):
    """Says in every run what is given, whatever the program."""

    script: tuple[wire.Message, ...] = ()

    def results(self) -> Iterable[wire.Message]:
        return self.script


def saying(*script: wire.Message) -> type[Scripted]:
    return type("Saying", (Scripted,), {"script": script})


class FallsSilent(Scripted):
    """Takes the program and says nothing more."""


class StopsReading(FakeSupervisor):
    """Its channel is full, and stays full."""

    def __init__(self) -> None:
        super().__init__()
        self.channel.is_full = True


class SpeaksGarbage(FakeSupervisor):
    def run(self, run: str, message: wire.Run) -> None:
        self.channel.say(b"\xff\x00 Traceback (most recent call last):\n")


class EndsInTheMiddleOfAFrame(FakeSupervisor):
    def run(self, run: str, message: wire.Run) -> None:
        line = self.writer.line(outcome(), run)
        self.channel.say(line[: len(line) // 2])
        self.channel.end()


class EndsWithoutAnOutcome(FakeSupervisor):
    """As a killed sandbox does: a stream that ends well, and looks like success (DESIGN §3)."""

    def run(self, run: str, message: wire.Run) -> None:
        self.say(wire.Output(stream="stdout", data=b"half of it"), run)
        self.channel.end()


class EndsRightAfterItsOutcome(FakeSupervisor):
    def finish(self) -> None:
        super().finish()
        self.channel.end()


class SpeaksInBytes(FakeSupervisor):
    """No fault, but a stream that breaks every frame: one byte at a time."""

    def say(self, message: wire.Message, run: str = "") -> None:
        for byte in self.writer.line(message, run):
            self.channel.say(bytes([byte]))


class SpeaksOfAnotherRun(FakeSupervisor):
    def say(self, message: wire.Message, run: str = "") -> None:
        super().say(message, "another" if run else "")


class NeverStops(FakeSupervisor):
    """Output without end, in pieces so small that no budget ends it soon; its channel never blocks."""

    def run(self, run: str, message: wire.Run) -> None:
        self.channel.endless = lambda: self.writer.line(wire.Output(stream="stdout", data=b"."), run)


class EndsAtSession(FakeSupervisor):
    def become_session(self, run: str) -> None:
        self.channel.end()


class EndsAtShell(FakeSupervisor):
    def shell(self, run: str) -> None:
        self.channel.end()


class LiesAtSession(FakeSupervisor):
    def become_session(self, run: str) -> None:
        self.channel.say(b"\xff\n")


class LiesAtShell(FakeSupervisor):
    def shell(self, run: str) -> None:
        self.channel.say(b"\xff\n")


ONE_OUTPUT = wire.Output(stream="stdout", data=b"hi")
ONE_FILE = wire.File(path="a.txt", data=b"a", last=True)
AN_OPEN_FILE = wire.File(path="a.txt", data=b"a", last=False)
AN_OUTCOME = outcome()

MISBEHAVIOURS: dict[str, type[FakeSupervisor]] = {
    "garbage": SpeaksGarbage,
    "another run": SpeaksOfAnotherRun,
    "hello in a run": saying(HELLO, AN_OUTCOME),
    "pong in a run": saying(wire.Pong(nonce=1), AN_OUTCOME),
    "output after a file": saying(ONE_FILE, ONE_OUTPUT, AN_OUTCOME),
    "a file within a file": saying(AN_OPEN_FILE, wire.File(path="b.txt", data=b"b", last=True), AN_OUTCOME),
    "a file that does not end": saying(AN_OPEN_FILE, AN_OUTCOME),
    "a file twice": saying(ONE_FILE, ONE_FILE, AN_OUTCOME),
    "an empty output": saying(wire.Output(stream="stdout", data=b""), AN_OUTCOME),
    "an empty piece": saying(wire.File(path="a.txt", data=b"", last=False), AN_OUTCOME),
    "cancelled unasked": saying(outcome(exit_code=None, reason="cancelled")),
    "no exit code": saying(outcome(exit_code=None)),
    "an exit code in a timeout": saying(outcome(reason="timeout")),
    "refused after output": saying(ONE_OUTPUT, wire.Refused(path="a.txt", resource="disk")),
}
