"""A sandbox that does not say all that the backend promises of its sandboxes is refused."""

from __future__ import annotations

import msgspec
import pytest

from pool import PoolTimeout
from pool.backend import Isolation
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import everyone_has_acted, in_virtual_time, until
from tests.fakes.faults import hello
from tests.fakes.pools import CountingObserver, full, pool_of, ran, soon
from tests.fakes.supervisor import FakeSupervisor


class Promising(FakeBackend):
    """Its sandboxes apply these steps, it says."""

    promised = ("seccomp", "landlock")

    def isolation(self) -> Isolation:
        return msgspec.structs.replace(super().isolation(), lockdown=self.promised)


def reporting(*steps: str) -> type[FakeSupervisor]:
    """Well-behaved, and held by these steps."""

    class Reporting(FakeSupervisor):
        def start(self) -> None:
            self.say(hello(lockdown=list(steps)))

    return Reporting


@in_virtual_time
async def test_one_that_lacks_a_step_is_not_used_and_the_reason_is_told():
    observer = CountingObserver()
    async with pool_of(Promising(start=reporting("seccomp")), observer) as pool:
        with pytest.raises(PoolTimeout, match=r"sandboxes cannot be started \(lockdown\)"):
            async with pool.lease(deadline=soon()):
                pass
        assert (pool.snapshot().hold_text or "").endswith("its lock-down lacks landlock")
    assert set(observer.words("start failed")) == {"lockdown"}


@in_virtual_time
async def test_one_that_lacks_a_step_is_ended():
    backend = Promising(start=reporting())
    async with pool_of(backend):
        await until(lambda: len(backend.created) > 3)
        await everyone_has_acted()
        assert len(backend.live) <= 2


@in_virtual_time
async def test_the_next_one_that_has_all_is_used():
    backend = Promising(start=reporting("landlock", "seccomp"))
    backend.next_starts.extend([reporting("landlock")] * 2)
    async with pool_of(backend) as pool:
        outcome, _ = await ran(pool)
        await full(pool)
    assert outcome.exit_code == 0


@in_virtual_time
async def test_more_than_is_promised_is_welcome():
    async with pool_of(Promising(start=reporting("more", "seccomp", "and more", "landlock"))) as pool:
        outcome, _ = await ran(pool)
    assert outcome.exit_code == 0
