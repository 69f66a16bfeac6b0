"""A session: a sandbox that a client holds for a while. It does one call after the other, and what they leave stays.

    idle ──stage, shell──▶ a call runs ──outcome──▶ idle ──…      until its time is over: then the sandbox ends

A call is a child of the zygote, as any program is, and ends with its first process. What else it has started goes on,
unless the call is ended for it (timeout, cancel, too much output): then all of the call goes. Too much memory or too
many processes end everything that lives, for nobody can tell whose they are.

Several channels may lead here: one of each replica. Who comes first is served first.

SECURITY: a guest can find our name and connect. Whoever comes through the door shows the token of which we hold only a
hash, before anything else is heard (tests/contract/test_session.py).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import deque

from sandbox_runtime import arming, guests, places, run, wire, workspace
from sandbox_runtime.leftovers import Leftovers
from sandbox_runtime.line import Line, through_the_door
from sandbox_runtime.pod import names
from sandbox_runtime.polling import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, NoReturn

    from sandbox_runtime import gauges

COMMAND_BYTES = 128 * 1024 - 1
"""The kernel takes no longer argument (MAX_ARG_STRLEN, with its NUL)."""

KILL_SECONDS = 3.0
"""So long the processes of a call have to die; then all do."""

ARM_SECONDS = 5.0
"""For so long what was left can keep us from watching it, by stopping the child that is being armed. Shorter ends
sessions on busy machines."""

MOST_LOST_CHILDREN = 8
"""Armed children that a guest may kill before its session is over."""

MOST_LINES = 32
"""Channels at once. SECURITY: a guest that opens them without end fills nothing but this list."""


_WITHOUT_FILES: Any = {"collect_ms": 0, "files_skipped": [], "files_skipped_count": 0}
"""Of an outcome: what a call makes stays where it is."""


class Call:
    """One that waits, or runs."""

    def __init__(self, line: Line, run_id: str, command: str, timeout_ms: int) -> None:
        self.line, self.run_id, self.command, self.timeout_ms = line, run_id, command, timeout_ms

    def is_of(self, line: Line, run_id: str) -> bool:
        return self.line is line and self.run_id == run_id

    def begin(self, child: arming.Child, limits: dict[str, int], gauge: gauges.Gauges, loop: Loop) -> None:
        self.child = child
        self.running = run.Run(child.pipes, limits, gauge, self._pass_on)
        words: dict[str, object] = {"shell": self.command, "env": {guests.MARK: self.run_id}}
        self.running.start(words, self.timeout_ms, b"", loop)

    def _pass_on(self, stream: str, data: bytes) -> None:
        self.line.output(stream, data, self.run_id)

    def kill(self) -> None:
        """All that it has started; the first process may be gone already."""
        deadline = time.monotonic() + KILL_SECONDS
        while found := guests.of_call(self.child.pid, self.run_id):
            guests.kill(found)
            if time.monotonic() > deadline:
                guests.kill_all()
                return
            time.sleep(0.0003)


class Session:
    """One for the rest of a sandbox's life."""

    def __init__(
        self,
        line: Line,
        terms: wire.Session,
        zygote: socket.socket,
        limits: dict[str, int],
        gauge: gauges.Gauges,
        door: socket.socket | None,
    ) -> None:
        """Others come through the door, where there is one; then the session outlives all its channels."""
        self._ends_at = time.monotonic() + terms.ttl_ms / 1000
        self._terms, self._zygote, self._limits, self._gauge, self._door = terms, zygote, limits, gauge, door
        self._loop = Loop()
        self._lines = [line]
        self._waiting: deque[Call] = deque()
        self._call: Call | None = None
        self._lost_children = 0
        self._left = Leftovers(self._loop, gauge, limits)
        self._arm()

    def serve(self) -> NoReturn:
        self._loop.on(self._zygote.fileno(), self._hear_zygote)
        if self._door is not None:
            self._door.listen(MOST_LINES)
            self._loop.on(self._door.fileno(), self._let_in)
        for line in self._lines:
            line.attach(self._loop, self._hear, self._lose)
            self._open(line)
        while True:
            running = self._call.running.next_event() if self._call else self._ends_at
            left = self._left.next_event(watched=self._call is not None)
            self._loop.turn(min(self._ends_at, running, left))
            self._look()

    def _look(self) -> None:
        if time.monotonic() >= self._ends_at:
            arming.leave(0)
        self._left.rested()
        if self._call is None:
            if self._left.look():
                self._await_the_armed()
            return
        self._call.running.look()
        if self._call.running.ended is not None:
            self._conclude(self._call, self._call.running.ended)

    # --- channels

    def _let_in(self) -> None:
        if self._door is None:
            raise AssertionError("heard from a door that is not there")
        connection, _ = self._door.accept()
        try:
            names.peer_of(connection)
        except OSError:
            connection.close()
            return
        if len(self._lines) >= MOST_LINES and not self._made_room():
            connection.close()
            return
        self._lines.append(through_the_door(connection))
        self._lines[-1].attach(self._loop, self._hear, self._lose)

    def _made_room(self) -> bool:
        """SECURITY: a guest may knock as often as it likes, and keeps no replica out: of those that have shown no token
        the oldest goes (tests/kube/sessions/test_doors.py)."""
        knocking = [line for line in self._lines if not line.is_proved]
        for oldest in knocking[:1]:
            oldest.close()
        return bool(knocking)

    def _open(self, line: Line) -> None:
        left_seconds = max(0.0, self._ends_at - time.monotonic())
        line.say(wire.Opened(left_ms=int(left_seconds * 1000)))

    def _lose(self, line: Line) -> None:
        """What it wanted is not wanted any more."""
        self._lines.remove(line)
        if self._door is None:
            arming.leave(0)
        self._waiting = deque(call for call in self._waiting if call.line is not line)
        if self._call is not None and self._call.line is line:
            self._call.running.end(run.killed("cancelled"))

    # --- what they say

    def _hear(self, line: Line, run_id: str, message: wire.Message) -> None:
        if not line.is_proved:
            self._admit(line, message)
        elif isinstance(message, wire.Ping):
            line.say(wire.Pong(nonce=message.nonce))
        elif isinstance(message, wire.Cancel):
            self._cancel(line, run_id)
        elif isinstance(message, wire.Stage) and message.target == "command":
            line.command += message.data
            if len(line.command) > COMMAND_BYTES:
                line.close()
        elif isinstance(message, wire.Shell) and run_id:
            self._enqueue(line, run_id, message)
        else:
            line.close()

    def _admit(self, line: Line, message: wire.Message) -> None:
        token = message.token if isinstance(message, wire.Prove) else ""
        said = hashlib.sha256(token.encode()).hexdigest()
        if self._terms.proof and hmac.compare_digest(said, self._terms.proof):
            line.is_proved = True
            self._open(line)
        else:
            line.close()

    def _enqueue(self, line: Line, run_id: str, message: wire.Shell) -> None:
        command, line.command = line.command.decode("utf-8", "surrogateescape"), bytearray()
        self._waiting.append(Call(line, run_id, command, message.timeout_ms))
        self._begin_next()

    def _cancel(self, line: Line, run_id: str) -> None:
        call = self._call
        if call is not None and call.is_of(line, run_id):
            call.running.end(run.killed("cancelled"))
        for each in [call for call in self._waiting if call.is_of(line, run_id)]:
            self._waiting.remove(each)
            line.say(_never_begun(), run_id)

    # --- calls

    def _arm(self) -> None:
        order = {"limits": self._limits, "session": True, "loopback": self._terms.loopback}
        self._armed = arming.arm(self._zygote, order, ARM_SECONDS)

    def _begin_next(self) -> None:
        if self._call is None and self._waiting:
            self._gauge.next_call()
            self._call = self._waiting.popleft()
            self._call.begin(self._armed, self._limits, self._gauge, self._loop)

    def _hear_zygote(self) -> None:
        ended = arming.ended(self._zygote)
        if ended is None:
            return
        pid, status = ended
        if self._call is not None and pid == self._call.child.pid:
            self._call.running.process_ended(status)
        elif pid == self._armed.pid:
            # SECURITY: what was left can kill it for ever, each time at the cost of a fork that nobody charges to it.
            self._lost_children += 1
            if self._lost_children > MOST_LOST_CHILDREN:
                arming.leave(arming.CHILD_FAILED)
            self._arm_again()

    def _arm_again(self) -> None:
        os.close(self._armed.pipes.request)
        self._armed.pipes.close(self._loop)
        self._arm()

    def _await_the_armed(self) -> None:
        """It went with what was left, which had to go: no call begins before another is there."""
        ended = None
        while ended is None or ended[0] != self._armed.pid:
            ended = arming.ended(self._zygote, flags=0)
        self._arm_again()

    def _conclude(self, call: Call, end: run.End) -> None:
        """Answer; then be ready for the next."""
        if end.reason in ("oom", "process_limit"):
            guests.kill_all()
        elif end.reason in ("timeout", "cancelled", "output_limit"):
            call.kill()
        call.running.drain(self._loop)
        self._left.keep_open(call.child.pipes.close_but_output(self._loop))
        call.line.say(_outcome(call.running, end), call.run_id)
        self._call = None
        self._arm()
        self._left.expect()
        self._begin_next()


def _outcome(running: run.Run, end: run.End) -> wire.Outcome:
    return wire.Outcome(
        **_WITHOUT_FILES,
        exit_code=end.exit_code,
        reason=end.reason,
        signal=end.signal,
        # 0 is for what never began: then nobody has to fear that it runs twice.
        duration_ms=max(1, round((end.at - running.started) * 1000)),
        limits_hit=workspace.limits_met(end.limits_hit, places.WRITABLE),
        stdout_truncated=running.truncated["stdout"],
        stderr_truncated=running.truncated["stderr"],
    )


def _never_begun() -> wire.Outcome:
    return wire.Outcome(
        **_WITHOUT_FILES,
        exit_code=None,
        reason="cancelled",
        signal=None,
        duration_ms=0,
        limits_hit=[],
        stdout_truncated=False,
        stderr_truncated=False,
    )
