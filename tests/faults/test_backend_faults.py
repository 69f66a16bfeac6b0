"""Sandboxes that cannot be started, or cannot be ended: a hold with a reason, no churn, and nothing is lost."""

from __future__ import annotations

import anyio
import pytest

from pool import (
    Isolation,
    PoolTimeout,
    RunLimits,
    SandboxPool,
    SandboxStartFailed,
    State,
)
from pool.keeper import DESTROY_SECONDS
from sandbox_runtime import wire
from tests.fakes import faults
from tests.fakes.backend import FakeBackend, with_one
from tests.fakes.clock import everyone_has_acted, in_virtual_time, until
from tests.fakes.pools import (
    SETTINGS,
    CountingObserver,
    count,
    full,
    holds_together,
    is_full,
    nothing_is_left,
    pool_of,
    ran,
    soon,
    the_ready_one,
)
from tests.fakes.supervisor import FakeSupervisor, outcome

STARTS = [
    (faults.NeverSaysHello, "timeout"),
    (faults.SpeaksAnotherProtocol, "protocol"),
    (faults.ClaimsRunsInHello, "hello"),
    (faults.SaysHelloTwice, "hello"),
    (faults.SpeaksBeforeHello, "hello"),
    (faults.EndsBeforeHello, "hello"),
]


@pytest.mark.parametrize(("fault", "reason"), STARTS)
@in_virtual_time
async def test_a_sandbox_that_does_not_start_well_never_becomes_warm(fault, reason):
    backend, observer = with_one(fault), CountingObserver()
    async with pool_of(backend, observer, startup_concurrency=1) as pool:
        await until(lambda: observer.words("start failed"))
        assert pool.snapshot().hold_reason == reason
        await full(pool)
        assert pool.snapshot().hold_reason is None
    assert observer.words("start failed") == [reason]
    assert "start_failed" in observer.words("retired")
    nothing_is_left(pool, backend)


CANARIES = [
    faults.FallsSilent,
    faults.SpeaksGarbage,
    faults.EndsWithoutAnOutcome,
    faults.saying(faults.AN_OUTCOME),
    faults.saying(wire.Output(stream="stdout", data=b"warm\n"), faults.AN_OUTCOME),
    faults.saying(wire.Output(stream="stdout", data=b"warm\n"), faults.ONE_FILE, faults.AN_OUTCOME),
    faults.saying(wire.Output(stream="stderr", data=b"Killed"), outcome(exit_code=137, reason="signal")),
]


@pytest.mark.parametrize("fault", CANARIES)
@in_virtual_time
async def test_nothing_becomes_warm_while_the_canary_fails(fault):
    backend, observer = FakeBackend(start=fault), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await until(lambda: len(observer.words("start failed")) >= 3)
        assert len(backend.created) - len(observer.words("start failed")) <= 1
        assert not pool.snapshot().has_been_warm
        assert pool.snapshot().hold_reason == "canary"
        assert "times in a row" in str(pool.snapshot().hold_text)
        backend.start = FakeSupervisor
        await full(pool)
        assert pool.snapshot().hold_text is None
    assert set(observer.words("start failed")) == {"canary"}


class RefusingBackend(FakeBackend):
    """Cannot make a sandbox until the test says so."""

    error: Exception | None = SandboxStartFailed("exceeded quota: pods=8", reason="quota")

    async def create(self, slot, *, on_lost, on_cut, limits):
        if self.error:
            self.created.append(slot)
            raise self.error
        return await super().create(slot, on_lost=on_lost, on_cut=on_cut, limits=limits)


@in_virtual_time
async def test_a_backend_that_cannot_start_anything_is_held_with_a_reason_and_no_churn():
    backend, observer = RefusingBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await anyio.sleep(600.0)
        assert 20 <= len(backend.created) <= 60
        snapshot = pool.snapshot()
        assert snapshot.hold_reason == "quota"
        assert "exceeded quota: pods=8" in str(snapshot.hold_text)
        assert snapshot.cold_seconds == pytest.approx(600.0)
        assert repr(pool).endswith("Waiting: 0 | Hold: quota]>")
        backend.error = None
        await full(pool)
    assert set(observer.words("start failed")) == {"quota"}
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_a_hold_that_lasts_is_told_to_callers_at_once():
    backend = RefusingBackend()
    async with pool_of(backend) as pool:
        await until(lambda: len(backend.created) == 9)
        began = anyio.current_time()
        with pytest.raises(PoolTimeout, match=r"\(quota\)") as refusal:
            async with pool.lease(deadline=soon(2.0)):
                pass
        assert anyio.current_time() == began
        assert refusal.value.retry_after_seconds > 2.0


@in_virtual_time
async def test_a_backends_own_trouble_is_a_failed_start():
    backend, observer = RefusingBackend(), CountingObserver()
    backend.error = OSError(24, "Too many open files")
    async with pool_of(backend, observer) as pool:
        await until(lambda: observer.words("start failed"))
        assert "Too many open files" in str(pool.snapshot().hold_text)
        backend.error = None
        await full(pool)
    assert set(observer.words("start failed")) == {"error"}


class PromisingBackend(FakeBackend):
    """Found more protections when it started than the fake supervisor reports."""

    def isolation(self):
        return Isolation(level="full", lockdown=("seccomp", "landlock"))


@in_virtual_time
async def test_a_sandbox_held_by_less_than_was_promised_never_becomes_warm():
    backend, observer = PromisingBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await until(lambda: observer.words("start failed"))
        assert "its lock-down lacks landlock" in str(pool.snapshot().hold_text)
        assert not pool.snapshot().has_been_warm
    assert set(observer.words("start failed")) == {"lockdown"}
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_a_slow_start_delays_and_loses_nobody():
    backend = FakeBackend()
    backend.gate = anyio.Event()
    async with pool_of(backend, start_seconds=3.0) as pool:
        with pytest.raises(PoolTimeout):
            await ran(pool)
        backend.gate.set()
        outcome, _ = await ran(pool)
        assert outcome.exit_code == 0
        await full(pool)
    nothing_is_left(pool, backend)


# --- while ending ---


@in_virtual_time
async def test_a_sandbox_that_cannot_be_ended_is_tried_again_and_keeps_its_slot():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        the_ready_one(pool, backend).failing_destroys = 3
        await ran(pool)
        await until(lambda: count(pool, State.READY) == SETTINGS.size)
        assert count(pool, State.RETIRING) == 1
        await full(pool)
    assert observer.words("destroy failed") == ["OSError: [Errno 5] cannot be ended just now"] * 3
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_close_gives_up_what_cannot_be_ended():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        the_ready_one(pool, backend).failing_destroys = 10**9
        began = anyio.current_time()
    assert anyio.current_time() - began == pytest.approx(DESTROY_SECONDS)
    assert len(pool._ledger.slots) == 0  # the backend's own exit takes what is left
    assert len(backend.live) == 1


@in_virtual_time
async def test_the_limit_holds_while_nothing_can_be_ended():
    backend = FakeBackend()
    async with pool_of(backend, size=1, max_in_flight=1, surge=1, drain_seconds=1.0) as pool:
        await full(pool)
        for _ in range(pool.settings.limit):
            await until(lambda: count(pool, State.READY))
            the_ready_one(pool, backend).failing_destroys = 10
            await ran(pool)
            await everyone_has_acted()
            holds_together(pool, backend)
        with pytest.raises(PoolTimeout):
            await ran(pool)
        assert len(backend.live) <= pool.settings.limit
        await full(pool)


@in_virtual_time
async def test_a_pool_can_be_made_for_a_backend_that_fails_to_open():
    class Broken(FakeBackend):
        def run(self):
            raise OSError("no namespaces here")

    pool = SandboxPool(SETTINGS, RunLimits(), Broken())
    with pytest.raises(OSError, match="no namespaces"):
        await pool.__aenter__()
    assert not is_full(pool)
