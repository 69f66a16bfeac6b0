"""From a request to a run that may begin: everything that can be refused before a sandbox is leased."""

from __future__ import annotations

from functools import partial

import anyio
import msgspec
from starlette.requests import Request

from broker.at_once import for_each
from broker.body import HeldBody, read_json_body
from broker.errors import FileMissing
from broker.execution_headers import execution_id, idempotency_key
from broker.schemas import ExecuteRequest, InputFile
from broker.service import Service
from broker.tenant_files import TenantFiles
from broker.tenants import Tenant, tenant_of
from broker.validation import MAX_BODY_BYTES, execute_request
from pool import PoolClosed, Program, StagedFile

# Lookups at once: a folder answers in tenths of a millisecond, a bucket in tens of them.
_LOOKUPS_AT_ONCE = 8

# What follows the grant of a sandbox has so long beside `timeout_ms`, however long the queue took: staging, the kill,
# collection, and a second or two of a busy machine. Less answers 502 for programs that ended in time, only because
# they were granted late; more keeps clients from hearing of it.
SECONDS_FROM_GRANT = 3.0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the right form; the files that it names were not looked for. Deadlines are the event loop's."""

    tenant: Tenant
    execution_id: str
    idempotency_key: str | None
    request: ExecuteRequest
    lease_deadline: float
    answer_deadline: float
    """When the queue, the run and everything beside it are to be over."""
    least_seconds: float
    """What the run and everything beside it get from the grant of a sandbox, though it be granted late."""
    latest_answer: float
    """But not beyond this."""

    @property
    def caller(self) -> str:
        """Whose it is, for what is kept by name."""
        return self.tenant.name

    @property
    def program(self) -> Program:
        return self.request.program

    @property
    def run_deadline(self) -> float:
        """For a run that begins now, with its sandbox in hand."""
        return max(self.answer_deadline, min(self.latest_answer, anyio.current_time() + self.least_seconds))


class Admitted(Asked, frozen=True, kw_only=True):
    """A run that may begin."""

    inputs: list[StagedFile]


async def look_up(asked: Asked, service: Service) -> Admitted:
    """Raises `FileMissing`."""
    inputs = await staged(asked.request.files, service.files(asked.tenant))
    return Admitted(**msgspec.structs.asdict(asked), inputs=inputs)


def refuse_while_draining(service: Service) -> None:
    """Nothing new begins then. Raises `PoolClosed`."""
    if service.draining:
        raise PoolClosed("The service is shutting down.")


async def ask(request: Request, service: Service, held: HeldBody) -> Asked:
    """Raises what `errors.TABLE` has below 500, or `PoolClosed`."""
    refuse_while_draining(service)
    key, name = idempotency_key(request.headers), execution_id(request.headers)
    body = await read_json_body(request, held, limit_bytes=MAX_BODY_BYTES)
    began = anyio.current_time()
    asked = execute_request(body, max_timeout_ms=service.settings.max_exec_timeout_ms)
    run_seconds, settings = asked.program.timeout_ms / 1000, service.settings
    return Asked(
        tenant=tenant_of(request),
        execution_id=name,
        idempotency_key=key,
        request=asked,
        lease_deadline=began + settings.execution_queue_timeout_sec,
        answer_deadline=began + settings.shared_seconds + run_seconds,
        # An operator who said less for everything beside the run gets no more after the grant.
        least_seconds=min(SECONDS_FROM_GRANT, settings.overhead_seconds or SECONDS_FROM_GRANT) + run_seconds,
        latest_answer=began + settings.longest_seconds,
    )


async def staged(files: tuple[InputFile, ...], store: TenantFiles) -> list[StagedFile]:
    """Every input is there: nobody waits for a sandbox only to learn that one is not. Raises `FileMissing`."""
    found: dict[int, StagedFile] = {}
    missing: dict[int, FileMissing] = {}

    async def look_up_one(numbered: tuple[int, InputFile]) -> None:
        number, file = numbered
        try:
            found[number] = await _find(file, store)
        except FileMissing as error:
            missing[number] = error

    await for_each(enumerate(files), min(_LOOKUPS_AT_ONCE, len(files)), look_up_one)
    if missing:
        raise missing[min(missing)]
    return [found[number] for number in sorted(found)]


async def _find(file: InputFile, store: TenantFiles) -> StagedFile:
    try:
        metadata = await store.find(file.file_id)
    except FileMissing:
        raise FileMissing(f"File with ID '{file.file_id[:256]}' not found for path '{file.given[:256]}'.") from None
    return StagedFile(path=file.path, read=partial(store.read, file.file_id, metadata.size_bytes))
