"""A run from its lease to its result, for those who are told of it at its end."""

from __future__ import annotations

from collections.abc import Callable

from broker.admission import Admitted
from broker.results import result
from broker.returned_files import ReturnedFiles
from broker.run_places import place_of
from broker.schemas import Result
from broker.service import Service
from pool import Stream

Take = Callable[[Stream, bytes], None]


class StoringSink:
    """Output to whoever takes it, at once; files go straight to the store."""

    def __init__(self, take: Take, files: ReturnedFiles) -> None:
        self._take, self._files = take, files

    async def output(self, stream: Stream, data: bytes) -> None:
        self._take(stream, data)

    async def file(self, path: str, data: bytes, last: bool) -> None:
        await self._files.take(path, data, last=last)


def _nothing() -> None:
    """Nobody waits for the lease alone."""


async def whole_run(
    service: Service, admitted: Admitted, operation: str, *, take: Take, begin: Callable[[], None] = _nothing
) -> Result:
    """`begin` is called when there is a sandbox, or the session's turn has come, before the program can run.

    Raises what a lease, or a turn, and its run raise.
    """
    tenant = admitted.tenant
    async with ReturnedFiles(service.files(tenant)) as files:
        async with place_of(service, admitted) as place:
            with service.metrics.execution(operation, tenant.name, queue_ms=place.queue_ms) as execution:
                begin()
                sink = StoringSink(take, files)
                outcome = await place.run(admitted.program, admitted.inputs, sink, admitted.run_deadline)
                ended = result(service, admitted, place, outcome, files)
                execution.ended(ended)
        files.delivered = True
    return ended
