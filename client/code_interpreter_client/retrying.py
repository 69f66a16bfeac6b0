"""When a refusal is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from code_interpreter_client.errors import ServiceRefused


@dataclass(frozen=True)
class Retrying:
    """Up to `attempts` calls in all. More wait longer in a busy hour; 1 tries nothing again."""

    attempts: int = 3
    longest_wait_seconds: float = 10.0
    """A service that asks for more is taken at its word, and the refusal is raised."""

    def wait_seconds(self, error: ServiceRefused, attempt: int) -> float | None:
        """Until the next call after the `attempt`-th, counted from 1; None when there is to be none."""
        asked = 1.0 if error.retry_after_seconds is None else error.retry_after_seconds
        if not error.retryable or attempt >= self.attempts or asked > self.longest_wait_seconds:
            return None
        return asked
