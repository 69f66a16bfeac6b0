"""What a request becomes before it is given a sandbox."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from starlette.requests import Request

from broker.admission import SECONDS_FROM_GRANT, Admitted, ask, look_up
from broker.body import BodyBudget, HeldBody
from broker.errors import FileMissing, Unprocessable
from broker.files import FileStore
from broker.settings import Settings
from broker.storage import open_storage
from broker.tenant_files import TenantFiles
from broker.tenants import EVERYONE, TENANT, Tenant
from pool import PoolClosed
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import in_virtual_time
from tests.fakes.pools import full, pool_of, the_ready_one
from tests.fakes.sinks import KeepingSink
from tests.fakes.supervisor import FakeSupervisor, shut


class Asked:
    """As much of the service as admission looks at."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        self.settings = Settings(**changed)
        self.store = FileStore(open_storage(None, str(folder / "files")), ttl_seconds=100)
        self.draining = False

    def files(self, tenant: Tenant) -> TenantFiles:
        return TenantFiles(self.store, tenant.name, quota_bytes=0)

    async def admit(self, **fields: Any) -> Admitted:
        body = msgspec.json.encode({"code": "print(1)", **fields})

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {
            "type": "http",
            "method": "POST",
            "headers": [(b"content-type", b"application/json")],
            TENANT: EVERYONE,
        }
        asked = await ask(Request(scope, receive), self, HeldBody(BodyBudget(2**20)))  # type: ignore[arg-type]  # no pool is needed here
        return await look_up(asked, self)  # type: ignore[arg-type]  # the same

    async def put(self, data: bytes) -> str:
        writer = self.store.write()
        await writer.write(data)
        return (await self.store.keep(writer, "n")).file_id


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.mark.parametrize(("timeout_ms", "run_seconds"), [(2000, 11), (60_000, 69)])
async def test_queue_staging_and_collection_share_nine_seconds_beside_the_run(
    asked: Asked, timeout_ms: int, run_seconds: float
) -> None:
    now = anyio.current_time()
    found = await asked.admit(timeout_ms=timeout_ms)
    assert found.lease_deadline - now == pytest.approx(8, abs=0.5)
    # The client waits for timeout_ms and 10 s.
    assert found.run_deadline - now == pytest.approx(run_seconds, abs=0.5)


async def test_a_longer_queue_takes_nothing_from_the_run(tmp_path: Path) -> None:
    asked, now = Asked(tmp_path, execution_queue_timeout_sec=30.0), anyio.current_time()
    found = await asked.admit(timeout_ms=1000)
    assert found.run_deadline - now == pytest.approx(32, abs=0.5)


@pytest.mark.parametrize(
    ("overhead_seconds", "queue", "timeout_ms", "least"),
    [
        (None, 8.0, 58_000, SECONDS_FROM_GRANT),
        (None, 8.0, 60_000, 1.0),
        (None, 0.0, 60_000, SECONDS_FROM_GRANT),
        (1.5, 1.0, 60_000, 1.5),
    ],
)
@in_virtual_time
async def test_who_is_granted_late_has_time_left_for_what_follows(
    tmp_path: Path, overhead_seconds: float | None, queue: float, timeout_ms: int, least: float
) -> None:
    asked = Asked(tmp_path, overhead_seconds=overhead_seconds, execution_queue_timeout_sec=queue)
    found = await asked.admit(timeout_ms=timeout_ms)
    await anyio.sleep_until(found.lease_deadline)
    assert found.run_deadline - anyio.current_time() == pytest.approx(timeout_ms / 1000 + least)


@in_virtual_time
async def test_a_program_that_ended_in_time_is_answered_although_granted_late_on_a_busy_machine(asked: Asked) -> None:
    backend = FakeBackend(start=shut)
    backend.next_starts.append(FakeSupervisor)  # the canary's
    async with pool_of(backend, size=1) as pool, anyio.create_task_group() as others:
        await full(pool)
        found = await asked.admit(timeout_ms=2000)
        await anyio.sleep_until(found.lease_deadline - 0.1)
        others.start_soon(finish_after, the_ready_one(pool, backend).supervisor, 2.0 + 1.5)
        async with pool.lease(deadline=found.lease_deadline) as lease:
            outcome = await lease.run(found.program, (), KeepingSink(), found.run_deadline)
        assert outcome.exit_code == 0
        others.cancel_scope.cancel()


async def finish_after(supervisor: FakeSupervisor, seconds: float) -> None:
    await anyio.sleep(seconds)
    supervisor.finish()


async def test_inputs_are_read_from_the_store_in_the_order_asked(asked: Asked) -> None:
    ids = [await asked.put(str(number).encode()) for number in range(20)]
    found = await asked.admit(files=[{"path": f"./f{n}", "file_id": file_id} for n, file_id in enumerate(ids)])
    assert [file.path for file in found.inputs] == [f"f{number}" for number in range(20)]
    assert [b"".join([piece async for piece in file.read()]) for file in found.inputs] == [b"%d" % n for n in range(20)]


async def test_the_first_missing_file_is_named_with_the_path_as_given(asked: Asked) -> None:
    there, unknown = await asked.put(b""), str(uuid.uuid4())
    files = [{"path": "a", "file_id": there}, {"path": "./b", "file_id": unknown}, {"path": "c", "file_id": "no"}]
    with pytest.raises(FileMissing, match=f"File with ID '{unknown}' not found for path './b'."):
        await asked.admit(files=files)


async def test_the_maximum_is_the_settings(tmp_path: Path) -> None:
    with pytest.raises(Unprocessable, match="timeout_ms exceeds maximum of 500 ms"):
        await Asked(tmp_path, max_exec_timeout_ms=500).admit(timeout_ms=501)


async def test_nothing_new_begins_while_draining(asked: Asked) -> None:
    asked.draining = True
    with pytest.raises(PoolClosed):
        await asked.admit()
