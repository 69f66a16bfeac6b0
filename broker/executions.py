"""The runs of this replica by their ids, for whoever wants to cancel one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from broker.errors import ExecutionCancelled, ExecutionExists, ExecutionMissing

# Giving back the files of a cancelled run may take 10 s; more would hold the canceller for nothing.
END_SECONDS = 12.0


class _Running:
    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()


class Executions:
    # SECURITY: an id is looked up beside its caller: another's run is not found, and not cancelled by a guess.
    def __init__(self) -> None:
        self._running: dict[tuple[str, str], _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    @contextmanager
    def running(self, caller: str, execution_id: str) -> Iterator[None]:
        """Raises `ExecutionExists` where the id is in use, and `ExecutionCancelled` when `cancel` ended it."""
        name = (caller, execution_id)
        if name in self._running:
            raise ExecutionExists(f"An execution with ID '{execution_id}' is running; give each an ID of its own.")
        one = self._running[name] = _Running()
        try:
            with one.scope:
                yield
        finally:
            del self._running[name]
            one.ended.set()
        if one.scope.cancelled_caught:
            raise ExecutionCancelled(f"Execution '{execution_id}' was cancelled by its caller.")

    async def cancel(self, caller: str, execution_id: str) -> None:
        """Returns when it has ended. Raises `ExecutionMissing` where this replica does not run it."""
        one = self._running.get((caller, execution_id))
        if one is None:
            raise ExecutionMissing(f"Execution '{execution_id[:256]}' is not running on this replica.")
        one.scope.cancel()
        with anyio.move_on_after(END_SECONDS):
            await one.ended.wait()
