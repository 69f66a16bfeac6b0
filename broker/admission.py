"""From a request to a run that may begin: everything that can be refused before a sandbox is leased."""

from __future__ import annotations

import uuid
from functools import partial

import anyio
import msgspec
from starlette.requests import Request

from broker.body import HeldBody, read_json_body
from broker.errors import FileMissing
from broker.schemas import InputFile
from broker.service import Service
from broker.tenant_files import TenantFiles
from broker.tenants import tenant_of
from broker.validation import MAX_BODY_BYTES, execute_request
from pool import PoolClosed, Program, StagedFile

# Lookups at once: a folder answers in tenths of a millisecond, a bucket in tens of them.
_LOOKUPS_AT_ONCE = 8

# What follows the grant of a sandbox has so long beside `timeout_ms`, however long the queue took: staging, the kill,
# collection, and a second or two of a busy machine. Less answers 502 for programs that ended in time, only because
# they were granted late; more keeps clients from hearing of it.
SECONDS_FROM_GRANT = 3.0
# Beside the longest run that is allowed, no answer takes longer than this once its request has come, or than
# `overhead_seconds` where that is more: clients give up after 70 s and the longest default run takes 60.
SECONDS_BESIDE_LONGEST = 9.0


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was found good. The deadlines are on the event loop's clock."""

    execution_id: str
    program: Program
    inputs: list[StagedFile]
    lease_deadline: float
    answer_deadline: float
    """When the queue, the run and everything beside it are to be over."""
    least_seconds: float
    """What the run and everything beside it get from the grant of a sandbox, though it be granted late."""
    latest_answer: float
    """But not beyond this."""

    @property
    def run_deadline(self) -> float:
        """For a run that begins now, with its sandbox in hand."""
        return max(self.answer_deadline, min(self.latest_answer, anyio.current_time() + self.least_seconds))


async def admit(request: Request, service: Service, held: HeldBody) -> Admitted:
    """Raises what `errors.TABLE` has below 500, or `PoolClosed`."""
    if service.draining:
        raise PoolClosed("The service is shutting down.")
    body = await read_json_body(request, held, limit_bytes=MAX_BODY_BYTES)
    began = anyio.current_time()
    asked = execute_request(body, max_timeout_ms=service.settings.max_exec_timeout_ms)
    run_seconds, settings = asked.program.timeout_ms / 1000, service.settings
    return Admitted(
        execution_id=str(uuid.uuid4()),
        program=asked.program,
        inputs=await _inputs(asked.files, service.files(tenant_of(request))),
        lease_deadline=began + settings.execution_queue_timeout_sec,
        answer_deadline=began + settings.shared_seconds + run_seconds,
        # An operator who said less for everything beside the run gets no more after the grant.
        least_seconds=min(SECONDS_FROM_GRANT, settings.overhead_seconds or SECONDS_FROM_GRANT) + run_seconds,
        latest_answer=began
        + settings.max_exec_timeout_ms / 1000
        + max(settings.shared_seconds, SECONDS_BESIDE_LONGEST),
    )


async def _inputs(files: tuple[InputFile, ...], store: TenantFiles) -> list[StagedFile]:
    """Every input is there: nobody waits for a sandbox only to learn that one is not."""
    found: dict[int, StagedFile] = {}
    missing: dict[int, FileMissing] = {}
    remaining = iter(enumerate(files))

    async def look_up_some() -> None:
        for number, file in remaining:
            try:
                found[number] = await _staged(file, store)
            except FileMissing as error:
                missing[number] = error

    async with anyio.create_task_group() as group:
        for _ in range(min(_LOOKUPS_AT_ONCE, len(files))):
            group.start_soon(look_up_some)
    if missing:
        raise missing[min(missing)]
    return [found[number] for number in sorted(found)]


async def _staged(file: InputFile, store: TenantFiles) -> StagedFile:
    try:
        metadata = await store.find(file.file_id)
    except FileMissing:
        raise FileMissing(f"File with ID '{file.file_id[:256]}' not found for path '{file.given[:256]}'.") from None
    return StagedFile(path=file.path, read=partial(store.read, file.file_id, metadata.size_bytes))
