"""Time that passes only when nobody has anything to do: a minute of waiting costs no time, and no test sleeps."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

import anyio
from anyio.lowlevel import checkpoint

P = ParamSpec("P")

PATIENCE_SECONDS = 10_000.0


class JumpingSelector(selectors.DefaultSelector):
    """Where the real one would wait, moves the clock. What would wait for ever is an error: nothing can wake it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if events := super().select(0):
            return events
        if timeout is None:
            raise AssertionError("everybody waits, and nothing will happen")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test on a `VirtualLoop`."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE_SECONDS):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main())

    return run


def pass_time(seconds: float) -> None:
    """Move the clock for somebody who is busy and never waits."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.jumping.now += seconds


async def until(holds: Callable[[], object], *, within_seconds: float = 5000.0) -> None:
    """Let everybody else go on until it holds."""
    deadline, pause = anyio.current_time() + within_seconds, 0.001
    while not holds():
        assert anyio.current_time() < deadline, "it never came to hold"
        await anyio.sleep(pause)
        pause = min(0.1, pause * 1.1)


async def everyone_has_acted() -> None:
    """Let every task go on until it waits for something; no time passes."""
    for _ in range(20):
        await checkpoint()
