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


def reporting(*steps: str, missing: tuple[str, ...] = ()) -> type[FakeSupervisor]:
    """Well-behaved, and held by these steps; of the others some could not be done."""

    class Reporting(FakeSupervisor):
        def start(self) -> None:
            self.say(hello(lockdown=list(steps), missing=list(missing)))

    return Reporting


class Held(FakeBackend):
    """Its sandboxes are held by everything, but for what they say themselves."""

    def isolation(self) -> Isolation:
        return Isolation(level="full")


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


@in_virtual_time
async def test_each_lease_knows_what_its_own_sandbox_lacks_and_the_pool_knows_the_least():
    backend = Held()
    backend.next_starts.extend([FakeSupervisor, FakeSupervisor, reporting(missing=("landlock",))])
    async with pool_of(backend) as pool:
        assert pool.isolation().level == "full"
        await full(pool)
        async with pool.lease(deadline=soon()) as one, pool.lease(deadline=soon()) as other:
            assert {one.missing, other.missing} == {(), ("landlock",)}
        found = pool.isolation()
    assert (found.level, found.missing) == ("reduced", ("landlock",))


@in_virtual_time
async def test_the_pool_is_well_again_when_the_one_that_lacked_something_is_gone():
    backend = Held()
    backend.next_starts.extend([FakeSupervisor, reporting(missing=("landlock",)), reporting(missing=("landlock",))])
    async with pool_of(backend) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()), pool.lease(deadline=soon()):
            pass
        await full(pool)
        assert pool.isolation().level == "full"


@pytest.mark.parametrize("level", ["reduced", "none"])
def test_what_is_held_less_already_stays_so(level: str):
    found = Isolation(level=level, missing=("memory cgroup",))
    assert found.without(("landlock",)) == found


@pytest.mark.parametrize(("missing", "proof"), [((), "of the pod"), (("landlock",), "")])
@in_virtual_time
async def test_a_session_has_other_channels_only_where_landlock_holds_its_guests(missing: tuple[str, ...], proof: str):
    backend = Held(start=reporting(missing=missing))
    async with pool_of(backend) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()) as lease:
            backend.live[lease.sandbox].proof = "of the pod"
            await lease.open_session(ttl_seconds=60, files=(), deadline=soon(), loopback=False)
            (terms,) = backend.live[lease.sandbox].supervisor.sessions
            assert (terms.proof, lease.may_be_shared) == (proof, bool(proof))
