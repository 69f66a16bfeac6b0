"""What is done again and again in the background, whatever happens to it in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio
import structlog

from broker.failures import bare, places

_log = structlog.get_logger()


async def again_and_again(name: str, work: Callable[[], Awaitable[object]], interval_seconds: float) -> NoReturn:
    """One failure is one line of the log. SECURITY: all of these share the service's task group: one that raised would
    end the others, and a key that was taken back would go on to be good (tests/unit/test_upkeep.py)."""
    while True:
        try:
            await work()
        except Exception as error:
            found = bare(error)
            _log.warning(f"{name}.failed", error=type(found).__name__, at=places(found))
        await anyio.sleep(interval_seconds)
