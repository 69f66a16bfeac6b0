"""Sandboxes and backends that go wrong: the caller gets the documented answer, and the pool is full again."""

from __future__ import annotations

import anyio
import pytest

from pool import (
    InputsRefused,
    LocalProtocolError,
    PoolSaturated,
    PoolTimeout,
    Program,
    RemoteProtocolError,
    RunLimits,
    SandboxLost,
    SandboxPool,
    SandboxStartFailed,
    State,
)
from pool.keeper import DESTROY_SECONDS
from pool.lease import LAST_WORDS_SECONDS
from sandbox_runtime import wire
from tests.fakes import faults
from tests.fakes.backend import FakeBackend, Start
from tests.fakes.clock import everyone_has_acted, in_virtual_time, until
from tests.fakes.pools import (
    PRINT,
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
from tests.fakes.sinks import FailingSink, KeepingSink
from tests.fakes.supervisor import FakeSupervisor


def with_one(fault: Start) -> FakeBackend:
    """The canary is well, the first warm sandbox is not, all others are."""
    backend = FakeBackend()
    backend.next_starts.extend([FakeSupervisor, fault])
    return backend


# --- in a run ---

IN_A_RUN = [
    *((name, fault, RemoteProtocolError, "misbehaved") for name, fault in faults.MISBEHAVIOURS.items()),
    ("falls silent", faults.FallsSilent, SandboxLost, "lost"),
    ("never stops", faults.NeverStops, SandboxLost, "lost"),
    ("stops reading", faults.StopsReading, SandboxLost, "lost"),
    ("ends in a frame", faults.EndsInTheMiddleOfAFrame, SandboxLost, "lost"),
    ("ends without an outcome", faults.EndsWithoutAnOutcome, SandboxLost, "lost"),
    ("refuses", faults.saying(wire.Refused(path="a", resource="disk")), InputsRefused, "refused"),
]


@pytest.mark.parametrize(("name", "fault", "error", "word"), IN_A_RUN, ids=[each[0] for each in IN_A_RUN])
@in_virtual_time
async def test_a_fault_in_a_run_is_answered_and_the_sandbox_replaced(name, fault, error, word):
    backend, observer = with_one(fault), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        bad = the_ready_one(pool, backend).name
        with pytest.raises(error):
            await ran(pool)
        holds_together(pool, backend)
        await full(pool)
        assert bad not in backend.live
        outcome, _ = await ran(pool)
        assert outcome.exit_code == 0
    assert observer.words("ran") == [word, "exited"]
    assert observer.words("retired")[1] == ("used" if word == "refused" else word)
    nothing_is_left(pool, backend)


@in_virtual_time
async def test_a_sandbox_that_dies_in_a_run_is_lost_at_once():
    backend, observer = with_one(faults.FallsSilent), CountingObserver()
    async with pool_of(backend, observer) as pool, anyio.create_task_group() as others:
        await full(pool)
        bad, began = the_ready_one(pool, backend), anyio.current_time()
        others.start_soon(die_soon, bad.die)
        with pytest.raises(SandboxLost, match="stream has ended"):
            await ran(pool)
        assert anyio.current_time() - began == pytest.approx(1.0)
        await full(pool)
    assert observer.words("retired")[1] == "lost"


@in_virtual_time
async def test_a_sandbox_that_dies_behind_an_open_stream_is_lost_within_a_moment():
    """kubernetes/kubernetes#129144: a stream can stay open and frozen after its pod is gone."""
    backend = with_one(faults.FallsSilent)
    async with pool_of(backend) as pool, anyio.create_task_group() as others:
        await full(pool)
        bad, began = the_ready_one(pool, backend), anyio.current_time()
        others.start_soon(die_soon, bad.die_unheard)
        with pytest.raises(SandboxLost, match="its outcome did not come"):
            await ran(pool)
        assert anyio.current_time() - began == pytest.approx(1.0 + LAST_WORDS_SECONDS)
        await full(pool)


async def die_soon(die) -> None:
    await anyio.sleep(1.0)
    die()


@in_virtual_time
async def test_an_outcome_that_is_on_its_way_when_the_sandbox_dies_still_counts():
    backend, observer = with_one(faults.FallsSilent), CountingObserver()
    async with pool_of(backend, observer) as pool, anyio.create_task_group() as others:
        await full(pool)
        bad = the_ready_one(pool, backend)
        others.start_soon(die_then_say, bad, faults.AN_OUTCOME)
        outcome, _ = await ran(pool)
        assert outcome.exit_code == 0
        await full(pool)
    assert observer.words("ran") == ["exited"]
    assert observer.words("retired")[1] == "used"


async def die_then_say(sandbox, message: wire.Message) -> None:
    await until(lambda: sandbox.supervisor.programs)
    [[run, _]] = sandbox.supervisor.heard_runs
    sandbox.die_unheard()
    await anyio.sleep(LAST_WORDS_SECONDS / 2)
    sandbox.supervisor.say(message, run)


@in_virtual_time
async def test_a_sandbox_that_dies_before_its_lease_runs_anything_says_so():
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        await full(pool)
        async with pool.lease(deadline=soon()) as lease:
            backend.live[lease.sandbox].die()
            with pytest.raises(SandboxLost, match="before its run began"):
                await lease.run(PRINT, (), KeepingSink(), soon())
        await full(pool)


@in_virtual_time
async def test_a_caller_whose_sink_fails_loses_its_sandbox_and_nobody_elses():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        with pytest.raises(OSError, match="No space left"):
            await into_a_full_store(pool)
        await full(pool)
    assert observer.words("ran") == ["cancelled"]
    assert observer.words("retired")[1] == "cancelled"


async def into_a_full_store(pool: SandboxPool) -> None:
    async with pool.lease(deadline=soon()) as lease:
        await lease.run(PRINT, (), FailingSink(), soon())


@in_virtual_time
async def test_a_program_that_cannot_be_sent_is_our_fault():
    backend = FakeBackend()
    async with pool_of(backend) as pool:
        await full(pool)
        with pytest.raises(LocalProtocolError):
            await ran(pool, Program(code="\ud800"))
        await full(pool)


# --- while idle ---


@in_virtual_time
async def test_a_sandbox_that_dies_while_idle_is_replaced():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        await anyio.sleep(10.0)
        the_ready_one(pool, backend).die()
        assert count(pool, State.RETIRING) == 1
        await full(pool)
    assert observer.words("retired")[1] == "lost"
    assert observer.words("start failed") == []


@pytest.mark.parametrize("fault", [faults.DoesNotAnswerPings, faults.AnswersAnotherPing])
@in_virtual_time
async def test_a_sandbox_that_fails_its_probe_is_replaced(fault):
    backend, observer = with_one(fault), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        bad = the_ready_one(pool, backend).name
        await until(lambda: "probe_failed" in observer.words("retired"))
        await full(pool)
        assert bad not in backend.live


@in_virtual_time
async def test_a_sandbox_that_dies_in_its_probe_is_replaced_once():
    backend, observer = with_one(faults.DoesNotAnswerPings), CountingObserver()
    async with pool_of(backend, observer) as pool:
        await full(pool)
        bad = the_ready_one(pool, backend)
        await until(lambda: count(pool, State.PROBING) and bad.supervisor.pings)
        bad.die()
        await full(pool)
        assert len(backend.created) == 4
    assert len(observer.words("retired")) == 4


@in_virtual_time
async def test_sandboxes_that_die_young_meet_a_backoff():
    backend, observer = FakeBackend(), CountingObserver()
    async with pool_of(backend, observer, size=1) as pool:
        for _ in range(5):
            await full(pool)
            the_ready_one(pool, backend).die()
        assert pool.snapshot().hold_reason == "lost"
        began = anyio.current_time()
        await full(pool)
        assert anyio.current_time() - began > 0.1
    assert observer.words("start failed") == ["lost"] * 5


# --- while starting ---

STARTS = [
    (faults.NeverSaysHello, "timeout"),
    (faults.SpeaksAnotherProtocol, "hello"),
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
    faults.saying(wire.Output(stream="stderr", data=b"Killed"), faults.outcome(exit_code=137, reason="signal")),
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

    async def create(self, slot, *, on_lost):
        if self.error:
            self.created.append(slot)
            raise self.error
        return await super().create(slot, on_lost=on_lost)


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
        with pytest.raises(PoolSaturated, match=r"\(quota\)") as refusal:
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
    async with pool_of(backend, observer, drain_seconds=1.0) as pool:
        await full(pool)
        the_ready_one(pool, backend).failing_destroys = 10**9
        began = anyio.current_time()
    assert anyio.current_time() - began == pytest.approx(1.0 + DESTROY_SECONDS, abs=1.0)
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
