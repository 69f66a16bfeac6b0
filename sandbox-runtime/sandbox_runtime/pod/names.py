"""Names that processes of one pod find each other by, and who it is that has been found.

SECURITY: a name is bound for as long as its owner lives, and listened on only while no guest does: a guest can
neither take it nor be let in (tests/hostile/test_shim.py).
"""

from __future__ import annotations

import os
import socket
import struct
import time

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


def bound(name: str, kind: int) -> socket.socket:
    """Raises OSError (EADDRINUSE) when somebody has it."""
    own = socket.socket(socket.AF_UNIX, kind)
    try:
        own.bind(name)
    except OSError:
        own.close()
        raise
    return own


def rebound(own: socket.socket, name: str, kind: int) -> socket.socket:
    """The same name on a socket that does not listen: nothing unlistens. No guest lives, so nobody can come between."""
    own.close()
    return bound(name, kind)


def peer_of(connection: socket.socket) -> int:
    """The pid of the other end. Raises OSError when it is none of ours."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid != os.getuid():
        raise OSError(f"a process of uid {uid} in place of our own")
    return int(pid)


def accepted(door: socket.socket) -> tuple[socket.socket | None, int]:
    """Who has come, and the pid of that; None for one that is none of ours, and was sent away."""
    connection, _ = door.accept()
    try:
        return connection, peer_of(connection)
    except OSError:
        connection.close()
        return None, 0


def connected(name: str, kind: int, seconds: float) -> socket.socket:
    """Connect, waiting for somebody to listen. Raises OSError when nobody did in time."""
    until = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX, kind)
        try:
            connection.connect(name)
            return connection
        except ConnectionRefusedError:
            connection.close()
            if time.monotonic() > until:
                raise
        time.sleep(0.01)
