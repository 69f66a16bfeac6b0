"""A session: a sandbox that a client holds for a while. It does one call after the other, and what they leave stays.

    idle ──stage, shell or run──▶ a call runs ──outcome──▶ idle ──…   until its time is over: then the sandbox ends

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
import time
from collections import deque

from sandbox_runtime import arming, calls, guests, lines, rlimits, run, wire
from sandbox_runtime.leftovers import Leftovers
from sandbox_runtime.line import Line, through_the_door
from sandbox_runtime.pod import names
from sandbox_runtime.polling import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Callable, NoReturn

    from sandbox_runtime import gauges

ARM_SECONDS = 5.0
"""For so long what was left can keep us from watching it, by stopping the child that is being armed. Shorter ends
sessions on busy machines."""

MOST_LOST_CHILDREN = 8
"""Armed children that a guest may kill before its session is over."""

MOST_LINES = 32
"""Channels at once. SECURITY: a guest that opens them without end fills nothing but this list."""


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
        self._waiting: deque[calls.Call] = deque()
        self._call: calls.Call | None = None
        self._armed: arming.Child | None = None
        """None from the begin of a call until it is answered."""
        self._lost_children = 0
        self._left = Leftovers(self._loop, gauge, limits)
        rlimits.take_all_descriptors()  # a thousand inputs are open at once
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
            running = self._call.next_event() if self._call else self._ends_at
            left = self._left.next_event(watched=self._is_watched())
            late = min((each.begins_by for each in self._waiting), default=self._ends_at)
            self._loop.turn(min(self._ends_at, running, left, late, self._forsaken_at()))
            self._look()

    def _look(self) -> None:
        if time.monotonic() >= self._ends_at:
            arming.leave(0)
        while time.monotonic() >= self._forsaken_at():
            lines.idle(self._lines, self._busy())[0].close()
        self._refuse_late()
        self._left.rested()
        if not self._is_watched() and self._left.look():
            self._await_the_armed()
        if self._call is not None:
            self._attend(self._call)

    def _attend(self, call: calls.Call) -> None:
        if call.is_over:
            self._tell(call)
            return
        call.running.look()
        if call.running.ended is not None:
            self._conclude(call, call.running.ended)

    def _is_watched(self) -> bool:
        """A call runs, whose own watch looks at what was left, too."""
        return self._call is not None and not self._call.is_over

    # --- channels

    def _let_in(self) -> None:
        if self._door is None:
            raise AssertionError("heard from a door that is not there")
        connection, peer = names.accepted(self._door)
        if connection is None:
            return
        is_bridge = guests.came_from_outside(peer)
        if len(self._lines) >= MOST_LINES and not self._made_room(for_bridge=is_bridge):
            connection.close()
            return
        line = through_the_door(connection, peer)
        line.attach(self._loop, self._hear, self._lose)
        self._lines.append(line)
        if is_bridge:
            self._gauge.bridges.add(peer)

    def _made_room(self, *, for_bridge: bool) -> bool:
        spare = lines.to_spare(self._lines, self._busy(), for_bridge=for_bridge)
        if spare is not None:
            spare.close()
        return spare is not None

    def _busy(self) -> list[Line]:
        return [call.line for call in (*self._waiting, self._call) if call is not None]

    def _forsaken_at(self) -> float:
        return lines.forsaken_at(self._lines, self._busy())

    def _open(self, line: Line) -> None:
        left_seconds = max(0.0, self._ends_at - time.monotonic())
        line.say(wire.Opened(left_ms=int(left_seconds * 1000)))

    def _lose(self, line: Line) -> None:
        """What it wanted is not wanted any more."""
        self._lines.remove(line)
        self._gauge.bridges.discard(line.peer)
        if self._door is None:
            arming.leave(0)
        self._forget_draft(line)
        for call in self._taken_out(lambda each: each.line is line):
            call.drop()
        if self._call is not None and self._call.line is line:
            self._end(self._call)

    # --- what they say

    def _hear(self, line: Line, run_id: str, message: wire.Message) -> None:
        if not line.is_proved:
            self._admit(line, message)
        elif isinstance(message, wire.Ping):
            line.say(wire.Pong(nonce=message.nonce))
        elif isinstance(message, wire.Cancel):
            self._cancel(line, run_id)
        elif isinstance(message, (wire.Stage, wire.Shell, wire.Run)) and run_id:
            self._draft(line, run_id, message)
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

    def _draft(self, line: Line, run_id: str, message: wire.Stage | wire.Shell | wire.Run) -> None:
        draft = line.draft
        if draft is None or (draft.was_refused and draft.run_id != run_id):
            draft = line.draft = calls.Draft(run_id)
        if draft.was_refused:
            return
        if draft.run_id != run_id:
            line.close()
        elif isinstance(message, wire.Stage):
            self._stage(line, draft, message)
        else:
            self._enqueue(line, draft, message)

    def _stage(self, line: Line, draft: calls.Draft, piece: wire.Stage) -> None:
        try:
            draft.add(piece)
        except wire.WireError:
            line.close()
        except OSError as error:
            draft.was_refused = True
            draft.drop()
            line.say(calls.refusal(error, piece.path), draft.run_id)

    def _enqueue(self, line: Line, draft: calls.Draft, message: wire.Shell | wire.Run) -> None:
        try:
            self._waiting.append(draft.call(line, message))
        except wire.WireError:
            line.close()
            return
        line.draft = None
        self._begin_next()

    def _forget_draft(self, line: Line) -> None:
        if line.draft is not None:
            line.draft.drop()
            line.draft = None

    def _cancel(self, line: Line, run_id: str) -> None:
        if line.draft is not None and line.draft.run_id == run_id:
            if not line.draft.was_refused:
                line.say(calls.never_begun(), run_id)
            self._forget_draft(line)
        if self._call is not None and self._call.is_of(line, run_id):
            self._end(self._call)
        for call in self._taken_out(lambda each: each.is_of(line, run_id)):
            _refuse(call)

    def _end(self, call: calls.Call) -> None:
        """Nobody wants it any more."""
        if call.is_over:
            call.give_up()
        else:
            call.running.end(run.killed("cancelled"))

    # --- calls

    def _arm(self) -> None:
        order = {"limits": self._limits, "session": True, "loopback": self._terms.loopback}
        self._armed = arming.arm(self._zygote, order, ARM_SECONDS)

    def _refuse_late(self) -> None:
        """Those that have waited in vain, wherever they stand."""
        now = time.monotonic()
        for call in self._taken_out(lambda each: each.begins_by < now):
            _refuse(call)

    def _taken_out(self, unwanted: Callable[[calls.Call], bool]) -> list[calls.Call]:
        """Of those that wait. All are out before one is told so, which may lose its channel, and the others of that."""
        found = list(filter(unwanted, self._waiting))
        for call in found:
            self._waiting.remove(call)
        return found

    def _begin_next(self) -> None:
        self._refuse_late()
        while self._call is None and self._waiting:
            self._begin(self._waiting.popleft())

    def _begin(self, call: calls.Call) -> None:
        try:
            call.prepare()
        except OSError as error:
            call.line.say(calls.refusal(error, error.filename or ""), call.run_id)
            return
        armed, self._armed = self._armed, None
        if armed is None:
            raise AssertionError("a call before a child was armed")
        self._gauge.next_call()
        self._call = call
        call.begin(armed, self._limits, self._gauge, self._loop)

    def _hear_zygote(self) -> None:
        ended = arming.ended(self._zygote)
        if ended is None:
            return
        pid, status = ended
        if self._call is not None and pid == self._call.child.pid:
            if not self._call.is_over:
                self._call.running.process_ended(status)
        elif self._armed is not None and pid == self._armed.pid:
            # SECURITY: what was left can kill it for ever, each time at the cost of a fork that nobody charges to it.
            self._lost_children += 1
            if self._lost_children > MOST_LOST_CHILDREN:
                arming.leave(arming.CHILD_FAILED)
            self._arm_again(self._armed)

    def _arm_again(self, lost: arming.Child) -> None:
        lost.pipes.close_all(self._loop)
        self._arm()

    def _await_the_armed(self) -> None:
        """It went with what was left, which had to go: no call begins before another is there."""
        lost = self._armed
        if lost is None:
            return
        ended = None
        while ended is None or ended[0] != lost.pid:
            ended = arming.ended(self._zygote, flags=0)
        self._arm_again(lost)

    def _conclude(self, call: calls.Call, end: run.End) -> None:
        """Its processes have ended, or what it has left goes on."""
        if end.reason in ("oom", "process_limit"):
            guests.kill_all_but_bridges()
        elif end.reason in ("timeout", "cancelled", "output_limit"):
            call.kill()
        call.running.drain(self._loop)
        self._left.keep_open(call.child.pipes.close_but_output(self._loop))
        call.collect(end, self._limits)
        self._left.expect(ours=0)
        self._tell(call)

    def _tell(self, call: calls.Call) -> None:
        """Answer, as far as the channel takes it; then be ready for the next."""
        if not call.tell():
            return
        call.line.say(call.outcome(), call.run_id)
        self._call = None
        self._arm()
        self._left.expect()
        self._begin_next()


def _refuse(call: calls.Call) -> None:
    """It never begins. To a channel that has ended this is said to nobody."""
    call.drop()
    call.line.say(calls.never_begun(), call.run_id)
