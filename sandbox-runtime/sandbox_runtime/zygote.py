"""The zygote: PID 1 of a sandbox. It has the libraries loaded, forks the children and reaps the dead.

It sees two things only: the supervisor's orders for a child, and the deaths of processes. A request
never passes here, so what the next child inherits holds nothing of the last one.

SECURITY: one thread (the child of a fork has only that one), not dumpable, no listening socket.
SIGINT has its default action, and no other signal a handler: the kernel then keeps all signals that
come from inside the sandbox away from PID 1, SIGKILL and SIGSTOP too (tests/hostile/test_shim.py).
"""

from __future__ import annotations

import os
import select
import signal
import socket

from sandbox_runtime import child, descriptors, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIGNALFD_RECORD_BYTES = 128


def serve(supervisor: socket.socket, groups: list[int]) -> child.Order:
    """Fork a child for each order. Returns in the children only; the zygote itself ends here."""
    deaths = _watch_deaths()
    children: set[int] = set()
    poll = select.poll()
    for descriptor in (supervisor.fileno(), deaths):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if deaths in ready:
            os.read(deaths, 16 * _SIGNALFD_RECORD_BYTES)
            _reap(supervisor, children)
        if supervisor.fileno() in ready:
            order = _answer(supervisor, groups, children)
            if order is not None:
                return order


def _watch_deaths() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGTERM])
    return kernel.signalfd([signal.SIGCHLD])


def leave() -> NoReturn:
    """End the sandbox: with PID 1 gone the kernel kills everything in its PID namespace."""
    os._exit(0)


def _reap(supervisor: socket.socket, children: set[int]) -> None:
    """Reap all that are dead; the supervisor hears of its own children only, or a fork bomb's dead would drown it."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in children:
            children.discard(pid)
            _tell(supervisor, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _tell(supervisor: socket.socket, message: dict[str, object]) -> None:
    try:
        descriptors.send(supervisor, message)
    except OSError:
        leave()


def _answer(supervisor: socket.socket, groups: list[int], children: set[int]) -> child.Order | None:
    try:
        message, own = descriptors.receive(supervisor)
    except OSError:
        leave()
    pid = os.fork()
    if pid == 0:
        return child.Order(own, message["limits"], groups)
    for descriptor in own:
        os.close(descriptor)
    children.add(pid)
    _tell(supervisor, {"forked": pid})
    return None
