"""Where a run takes place: in a sandbox of its own, or in the session that it names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from broker.admission import Asked
from broker.service import Service
from pool import Outcome, Program, Sink, StagedFile


class RunPlace(Protocol):
    """A lease, or the turn in a session: good for one run."""

    @property
    def queue_ms(self) -> float: ...

    @property
    def lease_ms(self) -> float: ...

    @property
    def missing(self) -> tuple[str, ...]:
        """Steps of the lock-down that its sandbox does without."""

    async def run(self, program: Program, files: Sequence[StagedFile], sink: Sink, deadline: float) -> Outcome: ...


def place_of(service: Service, asked: Asked) -> AbstractAsyncContextManager[RunPlace]:
    """Raises what a lease raises, or a session's turn: then nothing has run."""
    tenant, session_id = asked.tenant, asked.request.session_id
    if session_id is None:
        return service.pool.lease(deadline=asked.lease_deadline, caller=tenant.caller)
    return service.sessions.turn(tenant, session_id, asked.lease_deadline)
