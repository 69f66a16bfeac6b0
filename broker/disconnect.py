"""Work for a caller, for as long as the caller is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
from starlette.types import Scope

from broker.errors import ClientGone
from broker.failures import bare

T = TypeVar("T")

CLIENT = "code_interpreter.client"
"""Where a request's scope has its `Client`."""


class Client:
    """Whoever is at the other end of one connection. A call of theirs costs no task that waits for them to leave:
    starting and ending one took half a millisecond of each answer."""

    def __init__(self, read_on: Callable[[], None]) -> None:
        """`read_on` has the connection read, without which nobody notices that it is lost."""
        self._read_on = read_on
        self._is_gone = False
        self._told: list[Callable[[], None]] = []

    def leave(self) -> None:
        self._is_gone = True
        for tell in tuple(self._told):
            tell()

    @contextmanager
    def watched(self, tell: Callable[[], None]) -> Iterator[None]:
        """`tell` is called when they leave, or at once where they have."""
        if self._is_gone:
            tell()
        self._told.append(tell)
        self._read_on()
        try:
            yield
        finally:
            self._told.remove(tell)


async def while_connected(work: Callable[[], Awaitable[T]], scope: Scope) -> T:
    """Raises `ClientGone`, with the work cancelled, when the client goes first. The body must have been read."""
    client: Client = scope[CLIENT]
    with anyio.CancelScope() as there, client.watched(there.cancel):
        return await work()
    raise ClientGone("The client closed the connection.")


async def alongside(work: Callable[[], Awaitable[T]], companion: Callable[[], Coroutine[Any, Any, None]]) -> T:
    """The result of the work. The companion ends with it, or ends it by raising. Errors come out bare."""
    result: list[T] = []
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(companion)
            result.append(await work())
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        # A companion that raises when the work is done comes too late: an ended answer looks like a lost client.
        if not result:
            raise bare(errors) from errors
    return result[0]
