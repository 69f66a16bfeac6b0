"""Having the zygote fork a child, locked down and waiting, and hearing of its death."""

from __future__ import annotations

import json
import os
import select
import socket
import sys

from sandbox_runtime import child, descriptors, guests, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

READ_BYTES = 64 * 1024
ARM_SECONDS = 30.0
"""For a child to be locked down, which takes some 10 ms. Shorter gives up sandboxes of machines that are very busy."""

CHILD_FAILED = 70
"""Exit status of a supervisor that has no child, for the launcher's log: the channel closes, and the broker retires the
sandbox."""


class Child:
    """One that is armed, and our ends of its pipes."""

    __slots__ = ("applied", "missing", "pid", "pipes")

    def __init__(self, pid: int, pipes: run.Pipes, applied: list[str], missing: list[str]) -> None:
        self.pid, self.pipes, self.applied, self.missing = pid, pipes, applied, missing


def arm(zygote: socket.socket, order: dict[str, object], seconds: float = ARM_SECONDS) -> Child:
    """Order a child (`child.Order`); return when it is armed. Without one there is no sandbox: this process ends."""
    pipes, theirs = run.open_pipes()
    descriptors.send(zygote, order, theirs)
    for descriptor in theirs:
        os.close(descriptor)
    # SECURITY: a guest of a session may stop the child before it has said so (tests/contract/test_session.py).
    if not _is_readable(pipes.control, seconds):
        guests.kill_all()
        sys.stderr.write(f"a child was not armed in {seconds:.0f} s\n")
        leave(CHILD_FAILED)
    said = os.read(pipes.control, READ_BYTES)
    armed: dict[str, list[str]] = json.loads(said[1:]) if said.startswith(child.ARMED) else {}
    if "applied" not in armed:
        _await_verdict(zygote)
        sys.stderr.write(f"a child could not be locked down: {armed.get('failed', 'it died')}\n")
        leave(CHILD_FAILED)
    return Child(_forked(zygote), pipes, armed["applied"], armed["missing"])


def ended(zygote: socket.socket, flags: int = socket.MSG_DONTWAIT) -> tuple[int, int] | None:
    """The pid of a child that has ended, and its status as in `os.waitstatus_to_exitcode`."""
    try:
        message, _ = descriptors.receive(zygote, flags)
    except BlockingIOError:
        return None
    except OSError:
        leave(0)
    return (message["ended"], message["status"]) if "ended" in message else None  # type: ignore[return-value]  # ours


def _is_readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _forked(zygote: socket.socket) -> int:
    """Of deaths that are told before it nobody wants to hear any more."""
    while True:
        message, _ = descriptors.receive(zygote)
        if "forked" in message:
            return message["forked"]  # type: ignore[return-value]  # our own zygote


def _await_verdict(zygote: socket.socket) -> None:
    """Return when the zygote has told of the child's death. Where the whole sandbox is being ended, the child
    is only the first to go, and that is no complaint: the zygote says nothing any more."""
    try:
        while "ended" not in descriptors.receive(zygote)[0]:
            pass
    except OSError:
        leave(0)


def leave(status: int) -> NoReturn:
    os._exit(status)
