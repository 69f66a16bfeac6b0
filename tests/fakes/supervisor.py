"""A supervisor that lives in the test's own process: it speaks the real wire, and runs programs with `exec`.

It answers within `hear`, without a task of its own: what it says is in the channel when `send` returns,
unless `gate` is shut, which keeps the run's end back until the test opens it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from pool.errors import SandboxLost
from sandbox_runtime import wire
from tests.fakes.clock import pass_time

HELLO = wire.Hello(
    protocol=wire.PROTOCOL,
    runtime="fake",
    python="3.11.2",
    lockdown=["seccomp"],
    missing=[],
    preloaded=[],
    limits={},
    runs=0,
)


def outcome(**changed: object) -> wire.Outcome:
    """An uneventful end, but for what is changed."""
    fields: dict[str, Any] = {
        "exit_code": 0,
        "reason": "exited",
        "signal": None,
        "duration_ms": 1,
        "collect_ms": 0,
        "limits_hit": [],
        "stdout_truncated": False,
        "stderr_truncated": False,
        "files_skipped": [],
        "files_skipped_count": 0,
    }
    return wire.Outcome(**{**fields, **changed})


class FakeChannel:
    """A stream whose other end is in the same process."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self.sent: list[bytes] = []
        self.is_full = False
        """Then a send waits for ever."""
        self.endless: Callable[[], bytes] | None = None
        """Then a receive never waits, and never ends."""
        self._hear = hear
        self._said: list[bytes] = []
        self._arrived = anyio.Event()
        self._ended = False

    async def send(self, data: bytes) -> None:
        await checkpoint()
        if self._ended:
            raise SandboxLost("the stream has ended")
        if self.is_full:
            await anyio.sleep_forever()
        self.sent.append(data)
        self._hear(data)

    async def receive(self) -> bytes:
        if self.endless:
            pass_time(0.01)
            return self.endless()
        await checkpoint()
        while not self._said:
            if self._ended:
                raise SandboxLost("the stream has ended")
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._said.pop(0)

    def say(self, data: bytes) -> None:
        self._said.append(data)
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()


class FakeSupervisor:
    """Well-behaved. Faults are subclasses (faults.py)."""

    def __init__(self) -> None:
        self.channel = FakeChannel(self.hear)
        self.writer = wire.Writer()
        self.gate_is_open = True
        self.programs: list[str] = []
        self.heard_runs: list[tuple[str, wire.Run]] = []
        self.pings = 0
        self.acknowledged: list[str] = []
        """The runs whose outcome has come, as the broker says."""
        self.findings: list[str] = []
        """What a cleaning finds left."""
        self._reader = wire.Reader(wire.FROM_BROKER)
        self._staged: dict[tuple[str, str], bytes] = {}
        self.reachable: list[str] = []
        """What can be reached from inside."""
        self.sessions: list[wire.Session] = []
        """The terms of the one that it has become."""
        self._held_back: list[tuple[str, wire.Message]] = []

    # --- what it does ---

    def start(self) -> None:
        self.say(HELLO)

    def hear(self, data: bytes) -> None:
        for run, message in self._reader.feed(data):
            match message:
                case wire.Ping():
                    self.ping(message)
                case wire.Stage():
                    target = message.target, message.path
                    self._staged[target] = self._staged.get(target, b"") + message.data
                case wire.Run():
                    self.run(run, message)
                case wire.Clean():
                    self.clean()
                case wire.Ack():
                    self.acknowledged.append(run)
                case wire.Reach():
                    self.say(wire.Reached(targets=list(self.reachable)))
                case wire.Session():
                    self.sessions.append(message)
                    self.become_session(run)
                case wire.Shell():
                    self.shell(run)

    def ping(self, message: wire.Ping) -> None:
        self.pings += 1
        self.say(wire.Pong(nonce=message.nonce))

    def run(self, run: str, message: wire.Run) -> None:
        self.heard_runs.append((run, message))
        self.programs.append(self.staged("code").decode())
        self._held_back = [(run, each) for each in self.results()]
        if self.gate_is_open:
            self.finish()

    def clean(self) -> None:
        self._staged = {}
        self.say(wire.Cleaned(findings=self.findings, evidence={}, runs=len(self.heard_runs)))

    def become_session(self, run: str) -> None:
        self.say(wire.Opened(left_ms=1000), run)

    def shell(self, run: str) -> None:
        """Every command does nothing, and well."""
        self.say(outcome(), run)

    def results(self) -> Iterable[wire.Message]:
        """Run the program that was staged: what it prints, the files it writes, how it ended."""
        files = {path: data for (target, path), data in self._staged.items() if target == "file"}
        return executed(self.staged("code").decode(), self.staged("stdin").decode(), files)

    def finish(self) -> None:
        """Say what the run has come to."""
        self.gate_is_open = True
        for run, message in self._held_back:
            self.say(message, run)
        self._held_back = []

    def staged(self, target: str) -> bytes:
        return self._staged.get((target, ""), b"")

    # --- how it speaks ---

    def say(self, message: wire.Message, run: str = "") -> None:
        self.channel.say(self.writer.line(message, run))


def shut() -> FakeSupervisor:
    """Keeps every run going until the test opens its gate."""
    supervisor = FakeSupervisor()
    supervisor.gate_is_open = False
    return supervisor


class _Written(io.StringIO):
    def __init__(self, files: dict[str, bytes], path: str) -> None:
        super().__init__()
        self._files, self._path = files, path

    def close(self) -> None:
        self._files[self._path] = self.getvalue().encode()
        super().close()


def executed(code: str, stdin: str, files: dict[str, bytes]) -> Iterator[wire.Message]:
    """As a sandbox does it, for programs that print, read lines, read and write text files, raise and exit."""
    made, stdout, lines = dict(files), io.StringIO(), iter(stdin.splitlines())

    def opened(path: str, mode: str = "r") -> io.StringIO:
        return _Written(made, path) if "w" in mode else io.StringIO(made[path].decode())

    exit_code, stderr = 0, ""
    try:
        with contextlib.redirect_stdout(stdout):
            exec(code, {"__name__": "__main__", "open": opened, "input": lambda: next(lines)})
    except SystemExit as end:
        exit_code = int(end.code or 0)
    except Exception as error:
        exit_code, stderr = 1, f"{type(error).__name__}: {error}\n"
    yield from _outputs("stdout", stdout.getvalue().encode())
    yield from _outputs("stderr", stderr.encode())
    for path, data in made.items():
        if files.get(path) != data:
            yield wire.File(path=path, data=data, last=True)
    yield outcome(exit_code=exit_code)


def _outputs(stream: str, data: bytes) -> Iterator[wire.Output]:
    for start in range(0, len(data), wire.MAX_CHUNK_BYTES):
        yield wire.Output(stream=stream, data=data[start : start + wire.MAX_CHUNK_BYTES])
