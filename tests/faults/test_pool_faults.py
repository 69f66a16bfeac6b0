"""Sandboxes that go wrong in a run or while idle: the caller gets the documented answer, and the pool is full again."""

from __future__ import annotations

import anyio
import pytest

from pool import (
    InputsRefused,
    LocalProtocolError,
    Program,
    RemoteProtocolError,
    SandboxLost,
    SandboxPool,
    State,
)
from pool.lease import LAST_WORDS_SECONDS
from sandbox_runtime import wire
from tests.fakes import faults
from tests.fakes.backend import FakeBackend, with_one
from tests.fakes.clock import in_virtual_time, until
from tests.fakes.pools import (
    PRINT,
    CountingObserver,
    count,
    full,
    holds_together,
    nothing_is_left,
    pool_of,
    ran,
    soon,
    the_ready_one,
)
from tests.fakes.sinks import FailingSink, KeepingSink

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
