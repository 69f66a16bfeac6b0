"""The pool: carries out what the ledger decides.

    lease() ──want/leave──▶ ┌────────┐ ──Create──▶ a keeper's task: start, canary, probes, end
                            │ Ledger │ ──Delete──▶ its scope is cancelled
    keepers ─saw/failed───▶ └────────┘ ──Grant───▶ the waiter wakes with a lease
                                       ──Dismiss─▶ it wakes with nothing

Rule 1: a decision is one synchronous call into the ledger, and its actions are carried out before
        anything else can run (`_act`). No lock: nothing awaits in between.
Rule 2: `lease()` is the only way to a sandbox. Between being granted and entering its `try` there is no
        await, and giving back is a plain function: a cancelled holder gives back like any other
        (encode/httpcore#1093 is what happens otherwise).
Rule 3: every task belongs to the one task group that `__aenter__` opens.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from pool import snapshot
from pool.actions import Action, Create, Delete, Dismiss, Grant, Recycle, Refusal
from pool.backend import Backend, Isolation
from pool.caller import ANYBODY, Caller
from pool.errors import PoolClosed, PoolSaturated, PoolTimeout, SandboxStartFailed
from pool.keeper import DESTROY_SECONDS, Keeper
from pool.lease import Lease
from pool.ledger import Ledger
from pool.observer import NullObserver, Observer
from pool.settings import PoolSettings, RunLimits
from pool.snapshot import Snapshot
from pool.states import Event, Retirement, State
from pool.waiter import Answer, Waiter
from pool.waiting import WaiterId


class SandboxPool:
    """Warm sandboxes, one program each.

    async with SandboxPool(settings, limits, backend, observer) as pool:
        async with pool.lease(deadline=deadline) as lease:
            outcome = await lease.run(program, files, sink, deadline)
    """

    def __init__(
        self, settings: PoolSettings, limits: RunLimits, backend: Backend, observer: Observer | None = None
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.backend = backend
        self.observer: Observer = observer or NullObserver()
        self._ledger = Ledger(settings, generation=0)
        self._keepers: dict[str, Keeper] = {}
        self._waiters: dict[WaiterId, Waiter] = {}
        self._serial = itertools.count(1)
        self.jitter = random.SystemRandom().random
        self._runs = 0
        self._missing: tuple[str, ...] = ()
        self._opened_at = 0.0
        self._grace_seconds = 0.0
        """For programs that run when the pool closes; none when it is closed by an error."""
        self._tasks: TaskGroup | None = None
        self._changed = anyio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._open = self._own_tasks()

    def __repr__(self) -> str:
        count = self._ledger.slots.count
        slots = ", ".join(f"{count(state)} {state}" for state in State if state is not State.GONE)
        hold = self._ledger.hold.reason if self._ledger.hold else "none"
        return f"<SandboxPool [Slots: {slots} | Waiting: {len(self._ledger.waiting)} | Hold: {hold}]>"

    # --- for callers ---

    async def __aenter__(self) -> Self:
        await self._open.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The error is not handed in: it would come out wrapped in the task group's ExceptionGroup.
        self._grace_seconds = 0.0 if kind else self.settings.drain_seconds
        await self._open.__aexit__(None, None, None)

    @asynccontextmanager
    async def lease(self, *, deadline: float, caller: Caller = ANYBODY) -> AsyncIterator[Lease]:
        """Have a sandbox to oneself, waiting for one until the deadline at most.

        Raises `PoolSaturated` at once, `PoolTimeout` in the end or as soon as the end is known, `PoolClosed`
        when the pool closes; then nothing of the caller's has run. `caller` is whoever the queue is to be fair to,
        and whose limits hold.
        """
        waiter = self._want(caller, deadline)
        try:
            await waiter.wait(deadline)
            yield self._in_hand(waiter, caller)
        finally:
            self._leave(waiter)

    def snapshot(self) -> Snapshot:
        return snapshot.of_ledger(self._ledger, runs=self._runs, opened_at=self._opened_at, now=anyio.current_time())

    def isolation(self) -> Isolation:
        """Of the one that is held least of those there were when the last one had started."""
        return self.backend.isolation().without(self._missing)

    # --- wanting and leaving ---

    def _want(self, caller: Caller, deadline: float) -> Waiter:
        now = anyio.current_time()
        if self._tasks is None or self._ledger.closed:
            self.observer.lease_refused(reason="closed", wait_seconds=0.0)
            raise PoolClosed("the pool is closed")
        waiter = Waiter(WaiterId(next(self._serial)), now=now)
        answer = self._ledger.want(waiter.id, caller=caller, deadline=deadline, now=now)
        if isinstance(answer, Refusal):
            raise self._refused(answer)
        self._waiters[waiter.id] = waiter
        self._act(answer)
        waiter.was_warm = waiter.answer is Answer.GRANTED
        return waiter

    def _refused(self, answer: Refusal) -> PoolSaturated | PoolTimeout:
        self.observer.lease_refused(reason="saturated" if answer.queue_is_full else "timeout", wait_seconds=0.0)
        kind = PoolSaturated if answer.queue_is_full else PoolTimeout
        return kind(answer.text, retry_after_seconds=answer.retry_after_seconds)

    def _in_hand(self, waiter: Waiter, caller: Caller) -> Lease:
        if waiter.lease is None:
            raise self._refusal(waiter, caller, anyio.current_time())
        lease = waiter.lease
        lease.warm = waiter.was_warm
        lease.queue_ms = waiter.queue_seconds * 1000
        lease.lease_ms = waiter.seconds_since_answer * 1000
        self.observer.lease_granted(warm=lease.warm, wait_seconds=waiter.queue_seconds)
        return lease

    def _refusal(self, waiter: Waiter, caller: Caller, now: float) -> PoolClosed | PoolTimeout:
        waited_seconds = now - waiter.wanted_at
        if waiter.answer is Answer.DISMISSED:
            self.observer.lease_refused(reason="closed", wait_seconds=waited_seconds)
            return PoolClosed(f"the pool closed while this caller waited ({waited_seconds:.2f} s)")
        self.observer.lease_refused(reason="timeout", wait_seconds=waited_seconds)
        numbers = f"{len(self._ledger.waiting)} waiting, limit {self.settings.queue}"
        held = f"; sandboxes cannot be started ({self._ledger.hold.reason})" if self._ledger.hold else ""
        # It is not ahead of itself when it asks again.
        self._act(self._ledger.leave(waiter.id, now=now))
        retry_after_seconds = self._ledger.retry_after_seconds(caller, now)
        return PoolTimeout(f"waited {waited_seconds:.2f} s; {numbers}{held}", retry_after_seconds=retry_after_seconds)

    def _leave(self, waiter: Waiter) -> None:
        del self._waiters[waiter.id]
        doubt = None
        if waiter.lease is not None:
            waiter.lease.release()
            doubt = waiter.lease.doubt or (None if waiter.lease.was_uneventful else Retirement.USED)
            self._count_run(waiter.lease)
        self._act(self._ledger.leave(waiter.id, now=anyio.current_time(), doubt=doubt))

    def _count_run(self, lease: Lease) -> None:
        self._runs += lease.outcome is not None
        if lease.result is not None:
            self.observer.run_ended(result=lease.result)

    # --- told by keepers ---

    def saw(self, slot: str, event: Event, reason: Retirement = Retirement.LOST) -> None:
        now = anyio.current_time()
        if event in (Event.STARTED, Event.PROVED, Event.ALIVE):
            # Before anything else: a start that straddled the change may come from a template without a canary.
            self._act(self._ledger.roll(self.backend.generation(), now=now))
        self._act(self._ledger.saw(slot, event, now=now, reason=reason))
        if event is Event.DELETED:
            self._forget(slot)

    def started(self, slot: str, event: Event, *, seconds: float) -> None:
        self._missing = max((keeper.missing for keeper in self._keepers.values()), key=len)
        self.observer.sandbox_started(seconds=seconds)
        self.saw(slot, event)

    def failed(self, slot: str, error: SandboxStartFailed) -> None:
        now, text = anyio.current_time(), str(error)
        self.backend.held(error.reason, text)
        self._act(self._ledger.failed(slot, reason=error.reason, text=text, now=now, jitter=self.jitter()))

    def lost(self, slot: str) -> None:
        self._act(self._ledger.lost(slot, now=anyio.current_time(), jitter=self.jitter()))

    def state(self, slot: str) -> State:
        record = self._ledger.slots.get(slot)
        return record.state if record is not None else State.GONE

    def _forget(self, slot: str) -> None:
        if keeper := self._keepers.pop(slot, None):
            self.observer.sandbox_retired(reason=keeper.reason)
        self._changed.set()

    # --- carrying out ---

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Create():
                    self._create(action)
                case Grant():
                    self._waiters[action.waiter].grant(self._keepers[action.slot].grant())
                    self._settle_later(self.settings.short_run_seconds)
                case Dismiss():
                    self._waiters[action.waiter].dismiss()
                case Delete():
                    self._delete(action)
                case Recycle():
                    self._keepers[action.slot].recycle()
        self._changed.set()

    def _settle_later(self, seconds: float) -> None:
        """A program that is still there by then is a long one, and refill waits for it no more."""
        if self._timer is None and not self.settings.refill_eagerly:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._settle)

    def _settle(self) -> None:
        self._timer, now = None, anyio.current_time()
        self._act(self._ledger.settle(now))
        last = self._ledger.slots.last(State.LEASED)
        if last is not None and (age_seconds := now - last.since) < self.settings.short_run_seconds:
            self._settle_later(max(0.001, self.settings.short_run_seconds - age_seconds))

    def _create(self, order: Create) -> None:
        if self._tasks is None:
            raise AssertionError("a Create before the pool is open")
        self._keepers[order.slot] = Keeper(order, self)
        self._tasks.start_soon(self._keepers[order.slot].keep, name=f"sandbox {order.slot}")

    def _delete(self, action: Delete) -> None:
        if action.reason is Retirement.START_FAILED and (hold := self._ledger.hold):
            self.observer.sandbox_start_failed(reason=hold.reason, text=hold.text)
        self._keepers[action.slot].end(action.reason)

    # --- opening and closing ---

    @asynccontextmanager
    async def _own_tasks(self) -> AsyncIterator[None]:
        async with self.backend.run(), anyio.create_task_group() as self._tasks:
            self._opened_at = now = anyio.current_time()
            self._ledger.generation = self.backend.generation()
            self._act(self._ledger.settle(now))
            yield
            await self._drain(self._tasks)

    async def _drain(self, tasks: TaskGroup) -> None:
        """Nothing new; what runs may end until the grace is over, is cut then, and in the end left to the backend."""
        self._act(self._ledger.close(now=anyio.current_time()))
        with anyio.move_on_after(self._grace_seconds):
            await self._until(lambda: not self._ledger.slots.count(State.LEASED))
        self._act(self._ledger.close(now=anyio.current_time(), cut=True))
        with anyio.move_on_after(DESTROY_SECONDS):
            await self._until(lambda: not self._keepers)
        if self._timer is not None:
            self._timer.cancel()
        tasks.cancel_scope.cancel()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed = anyio.Event()
            await self._changed.wait()
