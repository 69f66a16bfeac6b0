"""A bridge: an exec that came where a supervisor is already. It hands its own stream over, byte for byte.

Whoever waits at the other end of that stream hears the supervisor, or that it is busy.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from sandbox_runtime import outbox, pod, wire
from sandbox_runtime.pod import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PIECE_BYTES = 64 * 1024

STALLED_SECONDS = 150
"""For a piece to be taken; then the bridge ends, by a signal. After a restart of containerd nobody takes any, and
nobody says so (containerd#8856): who waits for that does not see that the supervisor has closed its end. Shorter loses
calls of clients that read slowly; longer keeps what nobody will read."""


def be(channel: outbox.Channel) -> NoReturn:
    """Carry bytes until one side ends."""
    try:
        other = names.connected(pod.SUPERVISOR_NAME, socket.SOCK_STREAM, seconds=0.0)
        names.peer_of(other)
    except OSError:
        _say_busy(channel)
        os._exit(0)
    poll = select.poll()
    ways = {channel.reading: other.fileno(), other.fileno(): channel.writing}
    for descriptor in ways:
        poll.register(descriptor, select.POLLIN)
    try:
        while True:
            for descriptor, _ in poll.poll():
                _carry(descriptor, ways[descriptor])
    except OSError:  # a bridge whose end is gone gets EPIPE and ECONNRESET
        os._exit(0)


def _carry(source: int, target: int) -> None:
    data = os.read(source, PIECE_BYTES)
    if not data:
        os._exit(0)
    left = memoryview(data)
    signal.alarm(STALLED_SECONDS)
    while left:
        left = left[os.write(target, left) :]
    signal.alarm(0)


def _say_busy(channel: outbox.Channel) -> None:
    outgoing = outbox.Outbox(channel)
    outgoing.say(wire.Busy())
    try:
        outgoing.send()
    except OSError:  # nobody listens
        return
