"""What is said of a run that has ended: its files, and how it ended. Can be said again on another channel."""

from __future__ import annotations

import signal
import time

from sandbox_runtime import places, wire, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox_runtime import run


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
        end, running, found = self._end, self._running, self._found
        return wire.Outcome(
            exit_code=end.exit_code,
            reason=end.reason,
            signal=end.signal,
            duration_ms=round((end.at - running.started) * 1000),
            collect_ms=round((time.monotonic() - self._began) * 1000),
            limits_hit=workspace.limits_met(end.limits_hit, places.WRITABLE),
            stdout_truncated=running.truncated["stdout"],
            stderr_truncated=running.truncated["stderr"],
            files_skipped=found.skipped,
            files_skipped_count=found.skipped_count,
        )

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
