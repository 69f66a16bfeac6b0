"""Pools over the fake backend, and what can be said of one from outside."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec

from pool import PoolSettings, RunLimits, SandboxPool, State
from pool.program import Outcome, Program
from pool.states import Retirement
from tests.fakes.backend import FakeBackend, FakeSandbox
from tests.fakes.clock import until
from tests.fakes.sinks import KeepingSink

SETTINGS = PoolSettings(size=2, max_in_flight=3, surge=2, queue=4)
PRINT = Program(code="print('hi')")


class CountingObserver:
    """Remembers everything it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def words(self, what: str) -> list[Any]:
        return [word for told, word in self.told if told == what]

    def lease_granted(self, *, warm: bool, wait_seconds: float) -> None:
        self.told.append(("granted", warm))

    def lease_refused(self, *, reason: str, wait_seconds: float) -> None:
        self.told.append(("refused", reason))

    def sandbox_started(self, *, seconds: float) -> None:
        self.told.append(("started", seconds))

    def sandbox_start_failed(self, *, reason: str, text: str) -> None:
        self.told.append(("start failed", reason))

    def sandbox_retired(self, *, reason: Retirement) -> None:
        self.told.append(("retired", reason.value))

    def destroy_failed(self, *, sandbox: str, text: str) -> None:
        self.told.append(("destroy failed", text))

    def sandbox_cleaned(self, *, seconds: float, findings: int) -> None:
        self.told.append(("cleaned", findings))

    def run_ended(self, *, result: str) -> None:
        self.told.append(("ran", result))


def pool_of(backend: FakeBackend, observer: CountingObserver | None = None, **changed: object) -> SandboxPool:
    return SandboxPool(msgspec.structs.replace(SETTINGS, **changed), RunLimits(), backend, observer)


def soon(seconds: float = 8.0) -> float:
    return anyio.current_time() + seconds


def count(pool: SandboxPool, state: State) -> int:
    return pool.snapshot().slots[state.value]


def is_full(pool: SandboxPool) -> bool:
    """Every slot is ready, and there are as many as wanted."""
    return pool.snapshot().slots == {**dict.fromkeys(pool.snapshot().slots, 0), "ready": pool.settings.size}


async def full(pool: SandboxPool) -> None:
    await until(lambda: is_full(pool))


async def ran(pool: SandboxPool, program: Program = PRINT) -> tuple[Outcome, KeepingSink]:
    sink = KeepingSink()
    async with pool.lease(deadline=soon()) as lease:
        return await lease.run(program, (), sink, soon(11.0)), sink


async def run_for(pool: SandboxPool, program: Program, seconds: float) -> None:
    async with pool.lease(deadline=soon()) as lease:
        await lease.run(program, (), KeepingSink(), soon(seconds))


def the_ready_one(pool: SandboxPool, backend: FakeBackend) -> FakeSandbox:
    """The one that the next lease will get."""
    return backend.live[f"fake-{pool._ledger.slots.first(State.READY).name}"]


def holds_together(pool: SandboxPool, backend: FakeBackend) -> None:
    """I1 to I5 and I7, from the ledger's books and the backend's."""
    ledger = pool._ledger
    leased = ledger.slots.every(State.LEASED)
    assert all((slot.state is State.LEASED) == (slot.holder is not None) for slot in ledger.slots.every()), "I1"
    assert len({slot.holder for slot in leased}) == len(leased), "I2"
    room = len(leased) < pool.settings.max_in_flight
    assert not (len(ledger.waiting) and room and ledger.slots.count(State.READY)), "I3"
    assert len(ledger.slots) <= pool.settings.limit, "I4"
    assert len(backend.live) <= pool.settings.limit, "I4"
    assert {slot.holder for slot in leased} <= set(pool._waiters), "I5"
    assert {slot.name for slot in ledger.slots.every()} == set(pool._keepers), "I7"


def nothing_is_left(pool: SandboxPool, backend: FakeBackend) -> None:
    """I8."""
    assert len(pool._ledger.slots) == len(pool._ledger.waiting) == 0
    assert not pool._keepers
    assert not pool._waiters
    assert backend.live == {}
    assert not backend.is_running
