"""The supervisor: holds the channel, has children armed, runs programs in them, and reports.

    broker <== channel ==> supervisor <== orders, deaths ==> zygote --fork--> child
                               ^---- request, stdin, stdout, stderr, control ----^

    armed ──run──▶ running ──▶ over ──clean──▶ armed        or, where nobody cleans, the channel's end

One thread, one `poll`. It is not dumpable, and the child's seccomp filter names its pid: the program,
which has the same uid, can neither read it nor signal it.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from sandbox_runtime import (
    VERSION,
    arming,
    cleaning,
    gauges,
    guests,
    outbox,
    reaching,
    report,
    run,
    wire,
    workspace,
)
from sandbox_runtime.polling import FOR_EVER, READABLE, WRITABLE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

READ_BYTES = 256 * 1024
KILL_SECONDS = 3.0
"""So long the guests have to die, and until collecting has to end if that is later; then the sandbox ends instead of
answering. 1 500 of them took 0.4 s."""

LINGER_SECONDS = 0.002
"""Output waits so long for more, and for the end: `print` writes its newline by itself, and a short program ends in the
next millisecond. Each piece that goes out alone wakes every process between here and the broker, before the program may
go on. Shorter sends more pieces; longer would be seen by whoever reads along."""

MOST_FINDINGS = 16

_PROTOCOL_BROKEN, _UNKILLABLE = 65, 71
"""Exit statuses, for the launcher's log: the channel closes, and the broker retires the sandbox."""


class Supervisor:
    """One channel's worth of conversation: hello, pings, one run; another after each cleaning."""

    def __init__(self, channel: outbox.Channel, zygote: socket.socket, facts: dict[str, object]) -> None:
        self._channel, self._zygote = channel, zygote
        self._limits: dict[str, int] = facts["limits"]  # type: ignore[assignment]  # from the launcher, not from a peer
        self._preloaded: list[str] = facts["preloaded"]  # type: ignore[assignment]
        self._runs: int = facts.get("runs", 0)  # type: ignore[assignment]
        self._font_lists: str | None = facts.get("cleans")  # type: ignore[assignment]
        """Where matplotlib's font lists are, if programs may follow each other here; else None."""
        self._gauge = gauges.Gauges(facts["gauges"])  # type: ignore[arg-type]
        self._loop = Loop()
        self._reader = wire.Reader(wire.FROM_BROKER)
        self._outbox = outbox.Outbox(channel)
        self._over: report.Over | None = None
        """The run that has ended, until it is cleaned up after."""
        self._is_spent = False
        """A cleaning found something: nothing may follow (tests/contract/test_recycling.py)."""
        self._child_pid = 0
        self._flush_at = FOR_EVER
        """When output that lingers goes out."""

    def serve(self) -> NoReturn:
        """Arm a child, say hello, then do as the broker says until the channel ends."""
        self._baseline = None if self._font_lists is None else cleaning.Baseline(self._font_lists)
        self._arm()
        self._greet()
        self._hold(self._channel)
        self._loop.on(self._zygote.fileno(), self._hear_zygote)
        while True:
            self._loop.turn(self._next_event())
            if self._run:
                self._attend(self._run)
            if time.monotonic() >= self._flush_at:
                self._flush_at = FOR_EVER
                self._flush()
            self._watch()

    def _next_event(self) -> float:
        return min(self._flush_at, self._run.next_event() if self._run else FOR_EVER)

    def _watch(self) -> None:
        """After each turn: for those who wait for more than their broker (`pod_supervisor.py`)."""

    # --- arming

    def _arm(self) -> None:
        self._inputs = workspace.Inputs()
        self._run: run.Run | None = None
        self._run_id = ""
        self._refused = False
        self._status: int | None = None
        """Of the child, from the kernel; its own word on it may come before."""
        armed = arming.arm(self._zygote, {"limits": self._limits})
        self._armed, self._pipes, self._child_pid = armed, armed.pipes, armed.pid
        self._gauge.begin()

    def _greet(self) -> None:
        self._say(
            wire.Hello(
                protocol=wire.PROTOCOL,
                runtime=VERSION,
                python=sys.version.split()[0],
                lockdown=self._armed.applied,
                missing=self._armed.missing,
                preloaded=self._preloaded,
                limits=self._limits,
                runs=self._runs,
            )
        )

    # --- the channel

    def _hold(self, channel: outbox.Channel) -> None:
        self._channel = channel
        os.set_blocking(channel.reading, False)
        os.set_blocking(channel.writing, False)
        self._loop.on(channel.reading, self._receive)

    def _lose(self) -> None:
        """The channel has ended. Returns only where another may come."""
        arming.leave(0)

    def _say(self, message: wire.Message, run_id: str = "") -> None:
        self._outbox.say(message, run_id)
        self._flush()

    def _pass_on(self, stream: str, data: bytes) -> None:
        self._outbox.output(stream, data, self._run_id)
        if self._outbox.held_bytes() >= wire.MAX_CHUNK_BYTES:
            self._flush()
        else:
            self._flush_at = min(self._flush_at, time.monotonic() + LINGER_SECONDS)

    def _flush(self) -> bool:
        """Send what the channel takes; the rest goes out when it takes more."""
        try:
            is_empty = self._outbox.send()
        except OSError:
            self._lose()
            return True
        channel = self._channel
        if channel.reading == channel.writing:
            self._loop.on(channel.reading, self._receive if is_empty else self._exchange, _events(is_empty))
        elif is_empty:
            self._loop.off(channel.writing)
        else:
            self._loop.on(channel.writing, self._flush, WRITABLE)
        return is_empty

    def _exchange(self) -> None:
        self._flush()
        self._receive()

    def _send_all(self) -> None:
        outgoing = self._outbox
        while outgoing is self._outbox and not self._flush():
            self._loop.turn()

    def _receive(self) -> None:
        try:
            data = os.read(self._channel.reading, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            for run_id, message in self._reader.feed(data):
                self._handle(run_id, message)
        except wire.WireError:
            # Without its text, which quotes what arrived: somebody's code has no business in a log.
            sys.stderr.write("the broker broke the protocol\n")
            arming.leave(_PROTOCOL_BROKEN)

    def _handle(self, run_id: str, message: wire.Message) -> None:
        if isinstance(message, wire.Ping):
            self._say(wire.Pong(nonce=message.nonce))
        elif isinstance(message, wire.Cancel):
            self._cancel(run_id)
        elif isinstance(message, (wire.Stage, wire.Run)):
            self._check_place(run_id, message)
            if not self._refused:
                self._prepare(message)
        elif isinstance(message, wire.Session) and self._may_become_session():
            self._become_session(message)
        elif isinstance(message, wire.Reach) and self._is_idle():
            self._say(wire.Reached(targets=reaching.reached(message.targets)))
        elif self._over is None:
            raise wire.WireError(f"a {message.kind} frame out of place")
        else:
            self._wind_up(run_id, message)

    def _is_idle(self) -> bool:
        return self._run is None and self._over is None and not self._run_id and not self._is_spent

    def _may_become_session(self) -> bool:
        """With files or without, and before any run is known to the guest's side."""
        nothing_ran = self._run is None and self._over is None and not self._is_spent
        return nothing_ran and not self._refused and not self._inputs.is_open

    def _check_place(self, run_id: str, message: wire.Message) -> None:
        is_another = run_id != (self._run_id or run_id)
        if self._is_spent or self._run is not None or self._over is not None or is_another or not run_id:
            raise wire.WireError(f"a {message.kind} frame out of place")
        self._run_id = run_id

    def _prepare(self, message: wire.Message) -> None:
        if isinstance(message, wire.Stage):
            self._stage(message)
        elif isinstance(message, wire.Run):
            self._start(message)

    def _stage(self, message: wire.Stage) -> None:
        try:
            self._inputs.add(message)
        except OSError as error:
            resource = workspace.full_resource(error)
            if resource is None:
                raise wire.WireError("an input that has no place in the workspace") from error
            self._refused = True
            self._say(wire.Refused(path=message.path, resource=resource), self._run_id)

    # --- the run

    def _start(self, message: wire.Run) -> None:
        if not self._inputs.are_complete():
            raise wire.WireError("a run before all of its inputs")
        self._runs += 1
        self._collect_seconds = message.collect_ms / 1000
        self._run = run.Run(self._pipes, self._limits, self._gauge, self._pass_on)
        words = {"args": message.args, "env": message.env, "echo": message.last_line_interactive}
        self._run.start(words, message.timeout_ms, bytes(self._inputs.stdin), self._loop)

    def _cancel(self, run_id: str) -> None:
        if self._run is not None and run_id == self._run_id:
            self._run.end(run.killed("cancelled"))

    def _hear_zygote(self, flags: int = socket.MSG_DONTWAIT) -> None:
        ended = arming.ended(self._zygote, flags)
        if ended is None or ended[0] != self._child_pid:  # a cleaning that was ordered in the same turn has heard it
            return
        self._status = status = ended[1]
        if self._run is not None:
            self._run.process_ended(status)
        elif self._over is None:
            sys.stderr.write("the armed child died\n")
            arming.leave(arming.CHILD_FAILED)

    def _attend(self, running: run.Run) -> None:
        running.look()
        if running.ended is not None:
            self._conclude(running, running.ended)

    def _conclude(self, running: run.Run, end: run.End) -> None:
        """Report; the channel ends next, or a cleaning is ordered."""
        until = time.monotonic() + self._collect_seconds
        quick = end.reason == "exited" and workspace.is_untouched(self._inputs)
        if not quick:
            self._kill_guests(until)
        running.drain(self._loop)
        self._run = None
        self._over = report.Over(self._run_id, running, end, self._inputs, self._limits, until, quick)
        if not quick:
            self._let_in()
        self._tell(self._over)
        if quick:
            # The outcome is out by now, or waits for a slow reader: no reason to let what is left of the program live.
            guests.kill_all()
            self._let_in()

    def _let_in(self) -> None:
        """No guest lives (or dies this moment): another channel may come, where there can be another."""

    def _tell(self, over: report.Over, heard: int = 0) -> None:
        """Say what the run has come to, without the frames that were heard before."""
        outgoing = self._outbox
        for piece in over.pieces(heard):
            self._say(piece, over.run_id)
            self._send_all()
            if outgoing is not self._outbox:  # another channel came, and has been told all of it
                return
        self._say(over.outcome(), over.run_id)

    # --- a session

    def _become_session(self, terms: wire.Session) -> NoReturn:
        """For good."""
        # Not with the rest: two milliseconds of each supervisor's start, for what few become.
        from sandbox_runtime import line, session

        self._pipes.close_all(self._loop)  # the armed child ends: one with other rights takes its place
        first = line.Line(self._channel, self._reader, self._outbox, proved=True)
        session.Session(first, terms, self._zygote, self._limits, self._gauge, self._way_in()).serve()

    def _way_in(self) -> socket.socket | None:
        """Where other channels to a session come, if any may."""
        return None

    # --- after the run

    def _wind_up(self, run_id: str, message: wire.Message) -> None:
        if isinstance(message, wire.Clean) and self._baseline is not None:
            self._clean(self._baseline)
        elif not isinstance(message, wire.Ack):
            raise wire.WireError(f"a {message.kind} frame out of place")

    def _clean(self, baseline: cleaning.Baseline) -> None:
        """Be as before the first run, or say what is not so. What was asked is answered when a child is armed again."""
        over = self._over
        if over is None:
            raise AssertionError("cleaned before anything ran")
        self._kill_guests(time.monotonic() + KILL_SECONDS)
        while self._status is None:
            self._hear_zygote(flags=0)
        self._pipes.close(self._loop)
        was_out_of_memory = self._gauge.was_killed_by_the_kernel()
        self._gauge.end()
        findings, evidence = baseline.restore()
        findings = over.doubts(self._status, was_out_of_memory) + findings
        self._over, self._is_spent = None, bool(findings)
        if not findings:
            self._arm()
        self._say(wire.Cleaned(findings=findings[:MOST_FINDINGS], evidence=evidence, runs=self._runs))

    def _kill_guests(self, until: float) -> None:
        """Kill all but the zygote and us, and see them gone: a daemon must not write while we collect."""
        # On a busy machine they die slowly: freeing their memory counts as their own CPU time, of which programs get
        # little. The broker listens until then in any case, and a late answer is better than none.
        deadline = max(until, time.monotonic() + KILL_SECONDS)
        while guests.living():
            guests.kill_all()
            if time.monotonic() > deadline:
                sys.stderr.write(f"{len(guests.living())} guests outlived SIGKILL\n")
                arming.leave(_UNKILLABLE)
            time.sleep(0.0003)


def _events(is_empty: bool) -> int:
    return READABLE if is_empty else READABLE | WRITABLE
