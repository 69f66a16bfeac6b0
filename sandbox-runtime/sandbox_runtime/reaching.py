"""Whether anything can be reached from inside: the proof that a network policy holds, tried and not assumed.

Connected or reset means reached: somebody was there. No answer in a second, or no way there, means blocked. A UDP
target counts when it answers: silence says nothing, so it must be one that is known to.
"""

from __future__ import annotations

import errno
import select
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_SECONDS = 1.0
"""Smaller takes a slow network for a closed one; larger makes each sandbox wait longer, for that is how long silence
is listened to."""

_DNS_QUESTION = bytes.fromhex("1234 0100 0001 0000 0000 0000 00 0002 0001")
"""For the name servers of the root: a name server answers it, whatever it thinks of it."""

_REACHED = (0, errno.ECONNREFUSED, errno.ECONNRESET)


def reached(targets: Sequence[Sequence[object]]) -> list[str]:
    """Those that answer, as `protocol host:port`. All are tried at once."""
    attempts = [_Attempt(str(protocol), str(host), int(str(port))) for protocol, host, port in targets]
    try:
        _listen({each.descriptor: each for each in attempts if each.is_open})
        return [each.name for each in attempts if each.was_answered]
    finally:
        for each in attempts:
            each.close()


class _Attempt:
    """One target, and what came of it."""

    def __init__(self, protocol: str, host: str, port: int) -> None:
        self.name = f"{protocol} {host}:{port}"
        self.was_answered = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._is_tcp = protocol == "tcp"
        self._socket = socket.socket(family, socket.SOCK_STREAM if self._is_tcp else socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.is_open = self._begin(host, port)

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    @property
    def events(self) -> int:
        return select.POLLOUT if self._is_tcp else select.POLLIN

    def _begin(self, host: str, port: int) -> bool:
        try:
            result = self._socket.connect_ex((host, port))
            if not self._is_tcp:
                self._socket.send(_DNS_QUESTION)
        except OSError:  # no way there, or no address at all
            return False
        self.was_answered = self._is_tcp and result in _REACHED
        return result in (0, errno.EINPROGRESS) and not self.was_answered

    def look(self) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.was_answered = error in _REACHED

    def close(self) -> None:
        self._socket.close()


def _listen(attempts: dict[int, _Attempt]) -> None:
    poll, until = select.poll(), time.monotonic() + ANSWER_SECONDS
    for descriptor, each in attempts.items():
        poll.register(descriptor, each.events)
    while attempts and (left := until - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            attempts.pop(descriptor).look()
