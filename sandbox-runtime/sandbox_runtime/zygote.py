"""The zygote: PID 1 of a sandbox. It has the libraries loaded, forks the children and reaps the dead.

It sees two things only: the supervisor's orders for a child, and the deaths of processes. A request
never passes here, so what the next child inherits holds nothing of the last one.

SECURITY: one thread (the child of a fork has only that one), not dumpable, no listening socket.
SIGINT has its default action, and no other signal a handler: the kernel then keeps all signals that
come from inside the sandbox away from PID 1, SIGKILL and SIGSTOP too (tests/hostile/test_shim.py).
"""

from __future__ import annotations

import os
import signal
import socket

from sandbox_runtime import child, descriptors
from sandbox_runtime.deaths import Deaths
from sandbox_runtime.polling import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def serve(supervisor: socket.socket, groups: list[int]) -> child.Order:
    """Fork a child for each order. Returns in the children only; the zygote itself ends here."""
    return BoundZygote(supervisor, groups).serve()


class Zygote:
    """One for the life of a sandbox."""

    _supervisor: socket.socket

    def __init__(self, groups: list[int] | None) -> None:
        """`groups` as in `child.Order`."""
        self._groups = groups
        self._children: set[int] = set()
        self._order: child.Order | None = None

    def serve(self) -> child.Order:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        self._deaths = Deaths()
        self._loop = Loop()
        self._loop.on(self._deaths.descriptor, self._tell_of_deaths)
        self._open(self._loop)
        while self._order is None:
            self._loop.turn()
        return self._order

    def _open(self, loop: Loop) -> None:
        """Wait for whoever gives the orders."""
        raise NotImplementedError

    def _lose(self) -> None:
        """Whoever gave the orders has gone."""
        leave()

    def _obeyed(self, message: dict[str, object]) -> bool:
        """Whether it was no order for a child, and is done."""
        return False

    def _tell_of_deaths(self) -> None:
        """The supervisor hears of its own children only: a fork bomb's dead would drown it."""
        for pid, status in self._deaths.reap():
            if pid in self._children:
                self._children.discard(pid)
                self._tell({"ended": pid, "status": status})

    def _obey(self) -> None:
        try:
            message, own = descriptors.receive(self._supervisor)
        except OSError:
            self._lose()
            return
        if self._obeyed(message):
            return
        pid = os.fork()
        if pid == 0:
            session, loopback = bool(message.get("session")), bool(message.get("loopback"))
            limits: dict[str, int] = message["limits"]  # type: ignore[assignment]  # from our own
            self._order = child.Order(own, limits, self._groups, session, loopback)
            return
        for descriptor in own:
            os.close(descriptor)
        self._children.add(pid)
        self._tell({"forked": pid})

    def _tell(self, message: dict[str, object]) -> None:
        try:
            descriptors.send(self._supervisor, message)
        except OSError:
            self._lose()


class BoundZygote(Zygote):
    """Made with its supervisor, and ends with it."""

    def __init__(self, supervisor: socket.socket, groups: list[int]) -> None:
        super().__init__(groups)
        self._supervisor = supervisor

    def _open(self, loop: Loop) -> None:
        loop.on(self._supervisor.fileno(), self._obey)


def leave() -> NoReturn:
    """End the sandbox: with PID 1 gone the kernel kills everything in its PID namespace."""
    os._exit(0)
