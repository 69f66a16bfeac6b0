"""The supervisor of a container: exec'd by the broker, with the two pipes of that exec for a channel.

The channel is not the run. An exec's stream can be lost without a word on either side; then the run goes on, its
outcome is kept, and another exec of the same command finds us by our name and hands its own stream over (`bridge.py`).

    armed ──run──▶ running ──▶ over, kept ── ack or clean ──▶ …
      the channel is lost:   idle: leave, and be exec'd anew · running or kept: wait for another

SECURITY: nobody is let in while a guest lives; a guest is a process that has begun a request's program.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

from sandbox_runtime import (
    arming,
    command_line,
    container_gauges,
    descriptors,
    kernel,
    outbox,
    pod,
    rlimits,
    run,
    supervisor,
    wire,
)
from sandbox_runtime.pod import bridge, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sandbox_runtime import report

ZYGOTE_SECONDS = 120.0
"""For PID 1 to have loaded its libraries. The broker gives up sooner, as a rule."""

FORSAKEN_SECONDS = 150.0
"""Without a word from the broker, which sends a ping every 30 s or so. After a restart of containerd nobody says that
the channel has ended (containerd#8856); longer keeps what nobody will ask for."""

STDIN, STDOUT = 0, 1


def main() -> NoReturn:
    """Be the supervisor of this container; where there is one, be a bridge to it."""
    # SECURITY: first of all, before anybody could look at a process that has just been exec'd.
    kernel.set_dumpable(False)
    rlimits.take_all_descriptors()
    command_line.find()
    command_line.show([pod.TITLE, "supervisor"])
    with contextlib.suppress(OSError):
        os.setsid()  # the filter protects a process and the group it leads
    channel = outbox.Channel(STDIN, STDOUT)
    try:
        door = names.bound(pod.SUPERVISOR_NAME, socket.SOCK_STREAM)
    except OSError:
        bridge.be(channel)
    zygote = names.connected(pod.ZYGOTE_NAME, socket.SOCK_SEQPACKET, ZYGOTE_SECONDS)
    if names.peer_of(zygote) != 1:
        sys.stderr.write("the zygote's name belongs to another process\n")
        os._exit(77)
    facts, _ = descriptors.receive(zygote)
    PodSupervisor(channel, zygote, facts, door).serve()


class PodSupervisor(supervisor.Supervisor):
    """A supervisor that outlives its channel while there is something to tell."""

    def __init__(
        self, channel: outbox.Channel, zygote: socket.socket, facts: dict[str, object], door: socket.socket
    ) -> None:
        super().__init__(channel, zygote, {**facts, "gauges": {}})
        self._gauge = container_gauges.ContainerGauges()
        self._door = door
        self._log: list[wire.Output] = []
        self._outbox = outbox.Outbox(channel, self._log)
        self._is_lost = False
        self._heard_at = time.monotonic()

    def serve(self) -> NoReturn:
        self._listen()
        super().serve()

    # --- being found by another channel

    def _listen(self) -> None:
        self._door.listen(1)
        self._loop.on(self._door.fileno(), self._admit)

    def _admit(self) -> None:
        connection, _ = names.accepted(self._door)
        if connection is None:
            return
        self._forsake()
        number = connection.detach()
        os.set_blocking(number, False)
        channel = outbox.Channel(number, number)
        if self._over is None:
            # Idle: what comes next is better off without a bridge. We leave, and are exec'd anew.
            outgoing = outbox.Outbox(channel)
            outgoing.say(wire.Busy())
            outgoing.send()
            arming.leave(0)
        self._take(channel, self._over)

    def _take(self, channel: outbox.Channel, over: report.Over) -> None:
        self._reader = wire.Reader(wire.FROM_BROKER)
        held = self._outbox
        self._outbox = outbox.Outbox(channel, self._log)
        self._outbox.inherit(held)
        self._is_lost = False
        self._heard_at = time.monotonic()
        self._hold(channel)
        self._greet()
        self._say(wire.Kept(), over.run_id)

    def _forsake(self) -> None:
        """Hear and say nothing more on this channel. SECURITY: its numbers stay open, for containerd ends an exec
        whose fd 1 or 2 is closed (containerd#12734)."""
        self._loop.off(self._channel.reading)
        self._loop.off(self._channel.writing)
        if self._channel.reading not in (STDIN, STDOUT) and not self._is_lost:
            os.close(self._channel.reading)
        self._is_lost = True

    # --- losing a channel

    def _lose(self) -> None:
        if self._run is None and (self._over is None or self._over.has_arrived):
            arming.leave(0)
        self._forsake()

    def _flush(self) -> bool:
        return True if self._is_lost else super()._flush()

    def _receive(self) -> None:
        self._heard_at = time.monotonic()
        super()._receive()

    def _next_event(self) -> float:
        return min(super()._next_event(), self._heard_at + FORSAKEN_SECONDS)

    def _watch(self) -> None:
        if self._run is None and time.monotonic() > self._heard_at + FORSAKEN_SECONDS:
            arming.leave(0)

    # --- around a run

    def _start(self, message: wire.Run) -> None:
        self._loop.off(self._door.fileno())
        self._door = names.rebound(self._door, pod.SUPERVISOR_NAME, socket.SOCK_STREAM)
        descriptors.send(self._zygote, {"busy": True})
        super()._start(message)

    def _way_in(self) -> socket.socket:
        descriptors.send(self._zygote, {"busy": True})
        return self._door

    def _conclude(self, running: run.Run, end: run.End) -> None:
        super()._conclude(running, end)
        self._heard_at = time.monotonic()

    def _let_in(self) -> None:
        self._kill_guests(time.monotonic() + supervisor.KILL_SECONDS)
        self._listen()

    def _wind_up(self, run_id: str, message: wire.Message) -> None:
        over = self._over
        if isinstance(message, wire.Attach) and over is not None and run_id == over.run_id:
            self._tell_again(over, message.heard)
            return
        super()._wind_up(run_id, message)
        if over is not None:
            over.has_arrived = True
        # Nobody would miss this container now: it may end as soon as it is told to.
        descriptors.send(self._zygote, {"busy": False})

    def _tell_again(self, over: report.Over, heard: int) -> None:
        said = len(self._log)
        for output in self._log[min(heard, said) :]:
            self._outbox.say_again(output, over.run_id)
        self._tell(over, max(0, heard - said))

    def _clean(self, baseline: object) -> None:
        super()._clean(baseline)  # type: ignore[arg-type]  # handed through
        self._log.clear()
