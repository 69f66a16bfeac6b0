"""What is said of a run that has ended: its files, and how it ended. Can be said again on another channel."""

from __future__ import annotations

import signal
import time

from sandbox_runtime import places, wire, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sandbox_runtime import run


NOTHING_COLLECTED: dict[str, Any] = {"collect_ms": 0, "files_skipped": [], "files_skipped_count": 0}


def outcome(running: run.Run, end: run.End, of_files: dict[str, Any], *, least_ms: int = 0) -> wire.Outcome:
    """`of_files` is what it says of them; `least_ms` what a run takes that has begun."""
    return wire.Outcome(
        exit_code=end.exit_code,
        reason=end.reason,
        signal=end.signal,
        duration_ms=max(least_ms, round((end.at - running.started) * 1000)),
        limits_hit=workspace.limits_met(end.limits_hit, places.WRITABLE),
        stdout_truncated=running.truncated["stdout"],
        stderr_truncated=running.truncated["stderr"],
        **of_files,
    )


def collected(found: workspace.Collection, began: float) -> dict[str, Any]:
    """What an outcome says of the files, which were begun with then, on the monotonic clock."""
    collect_ms = round((time.monotonic() - began) * 1000)
    return {"collect_ms": collect_ms, "files_skipped": found.skipped, "files_skipped_count": found.skipped_count}


class Over:
    """A run that has ended. Its files are read when they are told: nobody lives who could change them."""

    def __init__(
        self,
        run_id: str,
        running: run.Run,
        end: run.End,
        inputs: workspace.Inputs,
        limits: dict[str, int],
        until: float,
        quick: bool,
    ) -> None:
        self.run_id = run_id
        self.has_arrived = False
        """The broker has said so: nothing need be kept."""
        self._running, self._end, self._inputs = running, end, inputs
        self._caps = workspace.Caps(limits["returned_files"], limits["file_bytes"], limits["returned_bytes"])
        self._until = until
        self._quick = quick
        """Plainly nothing to collect."""
        self._seconds = until - time.monotonic()

    def pieces(self, heard: int) -> Iterator[wire.File]:
        """The pieces of its files, but for the first ones that were heard before."""
        self._began = time.monotonic()
        until = max(self._until, self._began + self._seconds) if heard else self._until
        self._found = workspace.Collection(self._inputs, self._caps, until)
        if self._quick:
            return
        # SECURITY: never while a guest lives: it would swap a folder for a link between our look and our
        # opening (tests/hostile/test_outputs.py).
        for number, piece in enumerate(self._found.pieces()):
            if number >= heard:
                yield piece

    def outcome(self) -> wire.Outcome:
        """To be said when all pieces are."""
        return outcome(self._running, self._end, collected(self._found, self._began))

    def doubts(self, status: int, was_out_of_memory: bool) -> list[str]:
        """Why no other program should follow it, whatever a cleaning finds. `status` is the kernel's word on it."""
        if self._end.reason != "exited":
            return [f"the run ended by {self._end.reason}"]
        if was_out_of_memory:
            return ["the kernel ended one of its processes for want of memory"]
        # Killed after its last word, or ended with what it said.
        if status not in (self._end.exit_code, -signal.SIGKILL):
            return [f"its process ended with {status}, and it said {self._end.exit_code}"]
        return []
