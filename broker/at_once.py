"""Many small waits, a few of them at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from broker.failures import bare

T = TypeVar("T")


async def for_each(items: Iterable[T], at_once: int, do: Callable[[T], Awaitable[None]]) -> None:
    """Each takes the next one that nobody has taken. The first error ends the others, and comes out bare."""
    remaining = iter(items)

    async def take_some() -> None:
        for item in remaining:
            await do(item)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(at_once):
                group.start_soon(take_some)
    except BaseExceptionGroup as errors:
        raise bare(errors) from errors
