"""Descriptors: sending them to another process, and closing all but some."""

from __future__ import annotations

import array
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_MESSAGE_BYTES = 65536
MAX_DESCRIPTORS = 32


class PeerGone(OSError):
    """The other end of a socket is closed."""


class Truncated(OSError):
    """A message that did not fit, or came with more descriptors than may be open. It is gone; the next may be whole."""


def send(peer: socket.socket, message: dict[str, object], descriptors: Iterable[int] = ()) -> None:
    """Send one message, and open descriptors with it."""
    rights = array.array("i", descriptors).tobytes()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
    peer.sendmsg([json.dumps(message).encode()], ancillary)


def receive(peer: socket.socket, flags: int = 0) -> tuple[dict[str, object], list[int]]:
    """The next message of a SOCK_SEQPACKET socket. Raises `PeerGone` at its end."""
    try:
        data, ancillary, seen, _ = peer.recvmsg(
            MAX_MESSAGE_BYTES, socket.CMSG_SPACE(4 * MAX_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC | flags
        )
    except ConnectionError as error:  # it was closed before it had read everything
        raise PeerGone("the other end closed the socket") from error
    rights = _rights(ancillary)
    if not data:
        raise PeerGone("the other end closed the socket")
    try:
        if seen & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Truncated(
                f"a message over {MAX_MESSAGE_BYTES} bytes or {MAX_DESCRIPTORS} descriptors, or too many open files"
            )
        message: dict[str, object] = json.loads(data)
    except (Truncated, ValueError):
        for descriptor in rights:
            os.close(descriptor)
        raise
    return message, rights


def _rights(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    rights = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            rights.frombytes(payload[: len(payload) - len(payload) % rights.itemsize])
    return list(rights)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    low = 0
    for descriptor in sorted(set(keep)):
        if low < descriptor:  # an empty range would reach close_range(2) with an end of -1: everything
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, _end())


def _end() -> int:
    # closerange is one close_range(2) call where the kernel has it: the size of the range costs nothing.
    return max(65536, os.sysconf("SC_OPEN_MAX"))


def read_all(descriptor: int) -> bytes:
    """Everything until the end of the stream; closes it."""
    with open(descriptor, "rb", 0) as stream:
        return stream.readall()
