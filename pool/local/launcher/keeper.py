"""The keeper: first process of the launcher, and the last one left when the service is gone.

Everything it starts lives in one PID namespace below it. When the service ends, however it ends, its
end of the lifeline closes: the keeper kills that namespace's first process, and the kernel ends all
the others at once. What is left then are empty cgroups, which it removes.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

from sandbox_runtime import capabilities, descriptors, kernel, namespaces

from . import birth, nursery

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from .facts import KeeperFacts

REMOVE_SECONDS = 2.0


def main(facts: KeeperFacts, left_out: frozenset[str]) -> NoReturn:
    """Run the launcher. `left_out` are steps that a test omits."""
    try:
        first = _enter_and_fork(facts, left_out)
    except OSError as error:
        descriptors.send(socket.socket(fileno=facts["nursery_control"]), {"failed": str(error)})
        os._exit(70)
    # The service notices the nursery's death by the end of this socket: nobody else may hold it.
    os.close(facts["nursery_control"])
    _wait(first, facts["lifeline"])
    _kill(first)
    if not _service_goes_on(facts["lifeline"]):
        _remove_groups(facts["group_parents"])
    os._exit(0)


def _enter_and_fork(facts: KeeperFacts, left_out: frozenset[str]) -> int:
    if facts["as_root"]:
        os.setgroups([])
    else:
        _enter_outer_user_namespace()
    namespaces.unshare(namespaces.CLONE_NEWPID)
    first = os.fork()
    if first == 0:
        nursery.main(facts, left_out)
    return first


def _enter_outer_user_namespace() -> None:
    """As an ordinary user: one namespace in which we may make the others."""
    birth.enter_user_namespace(os.getuid(), os.getgid())
    capabilities.raise_ambient()


def _wait(first: int, lifeline: int) -> None:
    """Return when the service or the nursery is dead."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    poll.register(kernel.pidfd_open(first), select.POLLIN)
    poll.poll()


def _service_goes_on(lifeline: int) -> bool:
    """Whether it only replaces this launcher: then it says so, and the cgroups go on to be used."""
    return os.read(lifeline, 1) != b""


def _kill(first: int) -> None:
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)


def _remove_groups(parents: list[str]) -> None:
    """A cgroup can be removed when the last of its dead is reaped, which takes a moment."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while parents and time.monotonic() < deadline:
        parents = [parent for parent in parents if not _removed(parent)]
        time.sleep(0.01 if parents else 0)
    for parent in parents:
        sys.stderr.write(f"cgroup {parent} could not be removed within {REMOVE_SECONDS:g} s\n")


def _removed(parent: str) -> bool:
    for folder in [*_folders(parent), parent]:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _folders(parent: str) -> Iterator[str]:
    try:
        with os.scandir(parent) as entries:
            yield from [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
