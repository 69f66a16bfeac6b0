"""What is done again and again goes on, whatever happens to it once."""

from __future__ import annotations

import anyio
import pytest

from broker.errors import StorageFailed
from broker.upkeep import again_and_again
from tests.fakes.clock import in_virtual_time


@pytest.mark.parametrize(
    "error", [StorageFailed("gone"), OSError(30, "read-only"), ExceptionGroup("", [StorageFailed("gone")])]
)
@in_virtual_time
async def test_a_failure_ends_neither_it_nor_what_runs_beside_it(error: Exception):
    done: list[float] = []

    async def work() -> None:
        done.append(anyio.current_time())
        if len(done) == 1:
            raise error

    with anyio.move_on_after(25):
        async with anyio.create_task_group() as beside:
            beside.start_soon(again_and_again, "work", work, 10.0)
    assert len(done) == 3
