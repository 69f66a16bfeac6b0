"""Work for a caller, for as long as the caller is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio
from starlette.types import Receive

from broker.errors import ClientGone
from broker.failures import bare

T = TypeVar("T")


async def while_connected(work: Callable[[], Awaitable[T]], receive: Receive) -> T:
    """Raises `ClientGone`, with the work cancelled, when the client goes first. The body must have been read."""
    return await alongside(work, lambda: _raise_when_gone(receive))


async def _raise_when_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
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
