"""What the service's process is set up with before its event loop runs."""

from __future__ import annotations

import asyncio
import resource
import selectors
from collections.abc import Callable


def event_loop(*, as_root: bool) -> dict[str, object]:
    """The options for `anyio.run`.

    SECURITY: as an ordinary user, sandboxes share the service's uid in the kernel's books, and a program can use up all
    of the uid's epoll watches. libuv aborts the process then. `poll` needs none, and is as fast for a few hundred
    descriptors; as root each sandbox has a uid of its own.
    """
    return {"use_uvloop": True} if as_root else {"loop_factory": polling_loop}


def polling_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.PollSelector())


def allow_many_open_files(
    get: Callable[[int], tuple[int, int]] = resource.getrlimit,
    put: Callable[[int, tuple[int, int]], None] = resource.setrlimit,
) -> None:
    """Raise the soft limit of open files to the hard one; the launcher inherits it.

    SECURITY: descriptors on their way through a socket count for the uid, and against the limit of whoever sends the
    next. As an ordinary user, a program that keeps some hundreds on their way would stop all new sandboxes.
    """
    _, hard = get(resource.RLIMIT_NOFILE)
    put(resource.RLIMIT_NOFILE, (hard, hard))
