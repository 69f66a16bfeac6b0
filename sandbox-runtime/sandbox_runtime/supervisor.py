"""The supervisor: holds the channel, has children armed, runs programs in them, and reports.

    broker <== channel ==> supervisor <== orders, deaths ==> zygote --fork--> child
                               ^---- request, stdin, stdout, stderr, control ----^

One thread, one `poll`. It is not dumpable, and the child's seccomp filter names its pid: the program,
which has the same uid, can neither read it nor signal it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time

from sandbox_runtime import VERSION, child, descriptors, gauges, outbox, run, wire, workspace
from sandbox_runtime.polling import READABLE, WRITABLE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

READ_BYTES = 256 * 1024
KILL_SECONDS = 3.0
"""So long the guests have to die, and until collecting has to end if that is later; then the sandbox ends instead of
answering. 1 500 of them took 0.4 s."""

_PROTOCOL_BROKEN, _CHILD_FAILED, _UNKILLABLE = 65, 70, 71
"""Exit statuses, for the launcher's log: the channel closes, and the broker retires the sandbox."""

MOUNTS = ["/workspace", "/tmp", "/dev/shm"]  # noqa: S108  # the sandbox's own mounts


class Supervisor:
    """One channel's worth of conversation: hello, pings, one run."""

    def __init__(self, channel: int, zygote: socket.socket, facts: dict[str, object]) -> None:
        self._channel, self._zygote = channel, zygote
        self._limits: dict[str, int] = facts["limits"]  # type: ignore[assignment]  # from the launcher, not from a peer
        self._preloaded: list[str] = facts["preloaded"]  # type: ignore[assignment]
        self._gauge = gauges.Gauges(facts["gauges"])  # type: ignore[arg-type]
        self._loop = Loop()
        self._reader = wire.Reader(wire.FROM_BROKER)
        self._outbox = outbox.Outbox(channel)
        self._inputs = workspace.Inputs()
        self._run: run.Run | None = None
        self._run_id = ""
        self._refused = False
        self._child_pid = 0

    def serve(self) -> NoReturn:
        """Arm a child, say hello, then do as the broker says until the channel ends."""
        os.set_blocking(self._channel, False)
        self._arm()
        self._loop.on(self._channel, self._receive)
        self._loop.on(self._zygote.fileno(), self._hear_zygote)
        while True:
            self._loop.turn(self._run.next_event() if self._run else None)
            if self._run:
                self._attend(self._run)

    # --- arming

    def _arm(self) -> None:
        self._pipes, theirs = run.open_pipes()
        descriptors.send(self._zygote, {"limits": self._limits}, theirs)
        for descriptor in theirs:
            os.close(descriptor)
        said = os.read(self._pipes.control, READ_BYTES)
        armed: dict[str, list[str]] = json.loads(said[1:]) if said.startswith(child.ARMED) else {}
        if "applied" not in armed:
            self._await_verdict()
            sys.stderr.write(f"a child could not be locked down: {armed.get('failed', 'it died')}\n")
            leave(_CHILD_FAILED)
        self._child_pid = descriptors.receive(self._zygote)[0]["forked"]  # type: ignore[assignment]  # our own zygote
        self._greet(armed)

    def _await_verdict(self) -> None:
        """Return when the zygote has told of the child's death. Where the whole sandbox is being ended, the child
        is only the first to go, and that is no complaint: the zygote says nothing any more."""
        try:
            while "ended" not in descriptors.receive(self._zygote)[0]:
                pass
        except OSError:
            leave(0)

    def _greet(self, armed: dict[str, list[str]]) -> None:
        self._say(
            wire.Hello(
                protocol=wire.PROTOCOL,
                runtime=VERSION,
                python=sys.version.split()[0],
                lockdown=armed["applied"],
                missing=armed["missing"],
                preloaded=self._preloaded,
                limits=self._limits,
                runs=0,
            )
        )

    # --- the channel

    def _say(self, message: wire.Message, run_id: str = "") -> None:
        self._outbox.say(message, run_id)
        self._flush()

    def _pass_on(self, stream: str, data: bytes) -> None:
        self._outbox.output(stream, data, self._run_id)
        self._flush()

    def _flush(self) -> bool:
        """Send what the channel takes; the rest goes out when it takes more."""
        try:
            is_empty = self._outbox.send()
        except OSError:
            leave(0)
        if is_empty:
            self._loop.on(self._channel, self._receive)
        else:
            self._loop.on(self._channel, self._exchange, READABLE | WRITABLE)
        return is_empty

    def _exchange(self) -> None:
        self._flush()
        self._receive()

    def _send_all(self) -> None:
        while not self._flush():
            self._loop.turn()

    def _receive(self) -> None:
        try:
            data = os.read(self._channel, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            leave(0)
        if not data:
            leave(0)
        try:
            for run_id, message in self._reader.feed(data):
                self._handle(run_id, message)
        except wire.WireError:
            # Without its text, which quotes what arrived: somebody's code has no business in a log.
            sys.stderr.write("the broker broke the protocol\n")
            leave(_PROTOCOL_BROKEN)

    def _handle(self, run_id: str, message: wire.Message) -> None:
        if isinstance(message, wire.Ping):
            self._say(wire.Pong(nonce=message.nonce))
        elif isinstance(message, wire.Cancel):
            self._cancel(run_id)
        else:
            self._check_place(run_id, message)
            if not self._refused:
                self._prepare(message)

    def _check_place(self, run_id: str, message: wire.Message) -> None:
        if self._run is not None or run_id != (self._run_id or run_id) or not run_id:
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
        self._collect_seconds = message.collect_ms / 1000
        self._run = run.Run(self._pipes, self._limits, self._gauge, self._pass_on)
        self._run.start(message, bytes(self._inputs.stdin), self._loop)

    def _cancel(self, run_id: str) -> None:
        if self._run is not None and run_id == self._run_id:
            self._run.end(run.killed("cancelled"))

    def _hear_zygote(self) -> None:
        try:
            message, _ = descriptors.receive(self._zygote)
        except OSError:
            leave(0)
        if message.get("ended") != self._child_pid:
            return
        if self._run is None:
            sys.stderr.write("the armed child died\n")
            leave(_CHILD_FAILED)
        self._run.process_ended(message["status"])  # type: ignore[arg-type]  # our own zygote

    def _attend(self, running: run.Run) -> None:
        running.look()
        if running.ended is not None:
            self._conclude(running, running.ended)

    def _conclude(self, running: run.Run, end: run.End) -> NoReturn:
        """Report, then wait for the channel to end: a sandbox runs one program."""
        until = time.monotonic() + self._collect_seconds
        quick = end.reason == "exited" and workspace.is_untouched(self._inputs)
        if not quick:
            self._kill_guests(until)
        running.drain(self._loop)
        self._report(running, end, until, may_have_files=not quick)
        # The outcome is out by now, or waits for a slow reader: no reason to let what is left of the program live.
        _kill_all()
        self._send_all()
        while True:
            self._loop.turn()

    def _report(self, running: run.Run, end: run.End, until: float, may_have_files: bool) -> None:
        began = time.monotonic()
        found = workspace.Collection(self._inputs, self._caps(), until)
        # SECURITY: never while a guest lives: it would swap a folder for a link between our look and our
        # opening (tests/hostile/test_outputs.py).
        for piece in found.pieces() if may_have_files else ():
            self._say(piece, self._run_id)
            self._send_all()
        self._say(
            wire.Outcome(
                exit_code=end.exit_code,
                reason=end.reason,
                signal=end.signal,
                duration_ms=round((end.at - running.started) * 1000),
                collect_ms=round((time.monotonic() - began) * 1000),
                limits_hit=workspace.limits_met(end.limits_hit, MOUNTS),
                stdout_truncated=running.truncated["stdout"],
                stderr_truncated=running.truncated["stderr"],
                files_skipped=found.skipped,
                files_skipped_count=found.skipped_count,
            ),
            self._run_id,
        )

    def _caps(self) -> workspace.Caps:
        limits = self._limits
        return workspace.Caps(limits["returned_files"], limits["file_bytes"], limits["returned_bytes"])

    def _kill_guests(self, until: float) -> None:
        """Kill all but the zygote and us, and see them gone: a daemon must not write while we collect."""
        # On a busy machine they die slowly: freeing their memory counts as their own CPU time, of which programs get
        # little. The broker listens until then in any case, and a late answer is better than none.
        deadline = max(until, time.monotonic() + KILL_SECONDS)
        while gauges.guests():
            _kill_all()
            if time.monotonic() > deadline:
                sys.stderr.write(f"{len(gauges.guests())} guests outlived SIGKILL\n")
                leave(_UNKILLABLE)
            time.sleep(0.0003)


def _kill_all() -> None:
    # Atomic against fork: the kernel holds the task list, so no bomb outruns it; spares PID 1 and the caller.
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:  # nobody is left
        return


def leave(status: int) -> NoReturn:
    os._exit(status)
