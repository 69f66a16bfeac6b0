"""The calls of a session: commands for its shell, and programs. Each with what it gets, and what is told of its end.

drafted ──▶ waiting ──begin()──▶ running ──collect()──▶ its files are told ──▶ its outcome
"""

from __future__ import annotations

import time

from sandbox_runtime import beneath, guests, report, run, wire, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sandbox_runtime import arming, gauges
    from sandbox_runtime.line import Line
    from sandbox_runtime.polling import Loop

COMMAND_BYTES = 128 * 1024 - 1
"""The kernel takes no longer argument (MAX_ARG_STRLEN, with its NUL)."""

KILL_SECONDS = 3.0
"""So long the processes of a call have to die; then all do."""

SLICE_SECONDS = 0.01
"""Of telling files, before others are heard. Longer holds up pings and the session's own watch."""

STALLED_SECONDS = 30.0
"""After the time for collecting, for a channel that takes nothing: as long as the broker waits for its clients. Longer
lets it hold up the calls of others."""


class Draft:
    """What a channel has said so far of its next call."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.was_refused = False
        """What is still said of it is not heard."""
        self._command = bytearray()
        self._inputs: beneath.StagedInputs | None = None

    def add(self, piece: wire.Stage) -> None:
        """Raises `WireError` for one out of place, OSError where there is no place for it."""
        if piece.target == "command" and self._inputs is None:
            self._command += piece.data
            if len(self._command) > COMMAND_BYTES:
                raise wire.WireError("a command that the kernel does not take")
        elif self._command:
            raise wire.WireError("a command and a program")
        else:
            self._inputs = self._inputs or beneath.StagedInputs(beneath.shared_tree())
            self._inputs.add(piece)

    def call(self, line: Line, message: wire.Shell | wire.Run) -> Call:
        """Raises `WireError` where something else was staged."""
        if isinstance(message, wire.Shell) and self._inputs is None:
            return Command(line, self.run_id, message, self._command.decode("utf-8", "surrogateescape"))
        if isinstance(message, wire.Run) and self._inputs is not None and self._inputs.are_complete():
            return Program(line, self.run_id, message, self._inputs)
        raise wire.WireError("a call before all that it gets")

    def drop(self) -> None:
        if self._inputs is not None:
            self._inputs.drop()


class Call:
    """One that waits, or runs."""

    def __init__(self, line: Line, run_id: str, timeout_ms: int, wait_ms: int) -> None:
        self.line, self.run_id, self._timeout_ms = line, run_id, timeout_ms
        self._came = time.monotonic()
        self.begins_by = self._came + wait_ms / 1000
        """Or never: whoever asked for it would end it before its own time is over."""
        self._waited_seconds = 0.0
        self.is_over = False
        """Its processes need not be watched any more; what it has made may be told still."""
        self._until = 0.0
        self._steps: Iterator[wire.File | None] | None = None
        """Of telling its files, while there are more."""
        self._open_path: str | None = None
        """Of the file whose pieces are being told."""

    def is_of(self, line: Line, run_id: str) -> bool:
        return self.line is line and self.run_id == run_id

    # --- before it runs

    def prepare(self) -> None:
        """Put in place what it gets. Raises OSError."""

    def drop(self) -> None:
        """It will never begin."""

    def begin(self, child: arming.Child, limits: dict[str, int], gauge: gauges.Gauges, loop: Loop) -> None:
        self.child, self._waited_seconds = child, time.monotonic() - self._came
        self.running = run.Run(child.pipes, limits, gauge, self._pass_on)
        self.running.start(self._words({guests.MARK: self.run_id}), self._timeout_ms, self._stdin(), loop)

    def _words(self, mark: dict[str, str]) -> dict[str, object]:
        """For the child (`child.py`)."""
        raise NotImplementedError

    def _stdin(self) -> bytes:
        return b""

    # --- while it runs

    def next_event(self) -> float:
        if not self.is_over:
            return self.running.next_event()
        return 0.0 if self.line.has_room() else self._until + STALLED_SECONDS

    def _pass_on(self, stream: str, data: bytes) -> None:
        self.line.output(stream, data, self.run_id)

    def kill(self) -> None:
        """All that it has started; the first process may be gone already."""
        deadline = time.monotonic() + KILL_SECONDS
        while found := guests.of_call(self.child.pid, self.run_id):
            guests.kill(found)
            if time.monotonic() > deadline:
                guests.kill_all_but_bridges()
                return
            time.sleep(0.0003)

    # --- after its end

    def collect(self, end: run.End, limits: dict[str, int]) -> None:
        """Begin with what it has made."""
        self.is_over, self._end = True, end

    def tell(self) -> bool:
        """Tell some more of its files; True when there are no more, or nobody hears of them."""
        until = time.monotonic() + SLICE_SECONDS
        while self._steps is not None and self.line.is_open and time.monotonic() < until:
            if not self.line.has_room():
                self._wait_for_room()
                break
            self._tell_next(self._steps)
        return self._steps is None or not self.line.is_open

    def _wait_for_room(self) -> None:
        if time.monotonic() > self._until + STALLED_SECONDS:
            self.line.close()

    def _tell_next(self, steps: Iterator[wire.File | None]) -> None:
        try:
            piece = next(steps)
        except StopIteration:
            self._steps = None
            return
        if piece is not None:
            self._say(piece)

    def _say(self, piece: wire.File) -> None:
        self._open_path = None if piece.last else piece.path
        self.line.say(piece, self.run_id)

    def give_up(self) -> None:
        """Nobody wants its files."""
        self._steps = None
        if self._open_path is not None:
            self._say(wire.File(path=self._open_path, data=b"", last=True))

    def outcome(self) -> wire.Outcome:
        # 0 is for what never began: then nobody has to fear that it runs twice.
        return report.outcome(self.running, self._end, self._collected(), least_ms=1)

    def _collected(self) -> dict[str, Any]:
        """What its outcome says of its files."""
        return report.NOTHING_COLLECTED


class Command(Call):
    """What it makes stays where it is."""

    def __init__(self, line: Line, run_id: str, asked: wire.Shell, command: str) -> None:
        super().__init__(line, run_id, asked.timeout_ms, asked.wait_ms)
        self._command = command

    def _words(self, mark: dict[str, str]) -> dict[str, object]:
        return {"shell": self._command, "env": mark}


class Program(Call):
    """What it makes stays, too, and is told besides."""

    def __init__(self, line: Line, run_id: str, asked: wire.Run, inputs: beneath.StagedInputs) -> None:
        super().__init__(line, run_id, asked.timeout_ms, asked.collect_ms // 2)
        self._asked, self._inputs = asked, inputs
        self._found: workspace.Collection | None = None
        self._began = 0.0

    def prepare(self) -> None:
        self._since_ns = self._inputs.settle()

    def drop(self) -> None:
        self._inputs.drop()

    def _words(self, mark: dict[str, str]) -> dict[str, object]:
        asked = self._asked
        return {"args": asked.args, "env": {**asked.env, **mark}, "echo": asked.last_line_interactive}

    def _stdin(self) -> bytes:
        return bytes(self._inputs.stdin)

    def collect(self, end: run.End, limits: dict[str, int]) -> None:
        super().collect(end, limits)
        if end.reason == "cancelled":
            return
        self._began = time.monotonic()
        self._until = self._began + self._asked.collect_ms / 1000 - self._waited_seconds
        caps = workspace.Caps(limits["returned_files"], limits["file_bytes"], limits["returned_bytes"])
        tree, since_ns = beneath.shared_tree(), self._since_ns
        self._found = workspace.Collection(self._inputs, caps, self._until, tree, since_ns=since_ns)
        self._steps = self._found.steps()

    def _collected(self) -> dict[str, Any]:
        return super()._collected() if self._found is None else report.collected(self._found, self._began)


def never_begun() -> wire.Outcome:
    return wire.Outcome(
        **report.NOTHING_COLLECTED,
        exit_code=None,
        reason="cancelled",
        signal=None,
        duration_ms=0,
        limits_hit=[],
        stdout_truncated=False,
        stderr_truncated=False,
    )


def refusal(error: OSError, path: str) -> wire.Refused:
    """Why there is no place for what was staged. Nothing has run."""
    shown = "" if path == workspace.ENTRY else path
    if isinstance(error, beneath.Unsupported):
        return wire.Refused(path=shown, resource="kernel")
    return wire.Refused(path=shown, resource=workspace.full_resource(error) or "place")
