"""A sandbox that can reach anything is never leased: neither when it starts, nor when it could not and now can."""

from __future__ import annotations

import anyio
import pytest

from pool import PoolTimeout
from pool.backend import Target
from pool.egress import POLICY_SECONDS
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import in_virtual_time, until
from tests.fakes.pools import CountingObserver, full, pool_of, soon
from tests.fakes.supervisor import FakeSupervisor

EGRESS_SECONDS = 600.0


class Held(FakeBackend):
    """One whose sandboxes have to show that they reach nothing."""

    def unreachable(self) -> tuple[Target, ...]:
        return (("tcp", "192.0.2.1", 80),)


class Reaching(FakeSupervisor):
    def __init__(self) -> None:
        super().__init__()
        self.reachable = ["tcp 192.0.2.1:80"]


@in_virtual_time
async def test_one_that_reaches_out_never_becomes_warm_and_the_reason_is_told():
    observer = CountingObserver()
    async with pool_of(Held(start=Reaching), observer, start_seconds=2 * POLICY_SECONDS) as pool:
        with pytest.raises(PoolTimeout, match=r"sandboxes cannot be started \(egress\)"):
            async with pool.lease(deadline=soon(3 * POLICY_SECONDS)):
                pass
        assert "programs could reach tcp 192.0.2.1:80" in (pool.snapshot().hold_text or "")
    assert set(observer.words("start failed")) == {"egress"}


@in_virtual_time
async def test_a_policy_may_take_a_while_to_hold():
    backend = Held(start=Reaching)
    async with pool_of(backend, start_seconds=2 * POLICY_SECONDS) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(_policies_come, backend)
        await full(pool)
        tasks.cancel_scope.cancel()


async def _policies_come(backend: FakeBackend) -> None:
    while True:
        await anyio.sleep(POLICY_SECONDS / 2)
        for sandbox in backend.live.values():
            sandbox.supervisor.reachable = []


@in_virtual_time
async def test_an_idle_one_whose_policy_is_gone_is_ended():
    backend, observer = Held(), CountingObserver()
    async with pool_of(backend, observer, egress_seconds=EGRESS_SECONDS) as pool:
        await full(pool)
        (opened, *_) = backend.live.values()
        opened.supervisor.reachable = ["tcp 192.0.2.1:80"]
        await until(lambda: opened.name not in backend.live)
        assert "reached_out" in observer.words("retired")


@in_virtual_time
async def test_where_nothing_is_to_be_proved_nothing_is_tried():
    async with pool_of(FakeBackend(start=Reaching)) as pool:
        await full(pool)
