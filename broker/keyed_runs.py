"""Runs with an idempotency key: each runs once, however often and wherever it is asked for.

A run belongs to no request but to a task of its own, so that it goes on when one of those who wait for it leaves. It
ends, and its sandbox with it, when the last one has left. What it came to is in the store before anybody is told.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec
from anyio.abc import TaskGroup

from broker.claims import Claim, Claims, claim_name
from broker.errors import BrokerError, ExecutionCancelled, KeyInUse, KeyReused, OutcomeUnknown
from broker.failures import log_failure
from broker.shared_run import SharedRun
from pool import InputsRefused, PoolClosed, PoolError

# For storing an outcome, or giving a claim up. More holds callers where a store hangs; less loses outcomes.
SETTLE_SECONDS = 10.0
# Nobody knows how long the other replica's run takes; most take less.
RETRY_AFTER_SECONDS = 2.0

Work = Callable[[SharedRun], Awaitable[None]]
"""Carries the run out: `begin` before the program can run, output as it comes, `result` at the end."""


class Keyed(msgspec.Struct, frozen=True):
    """What a call asks for."""

    name: str
    """Of the claim."""
    digest: str
    """Of the request."""
    tenant: str
    quota_bytes: int

    @property
    def run(self) -> tuple[str, str]:
        return self.name, self.digest


class KeyedRuns:
    """Those of this replica that are under way."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self._runs: dict[tuple[str, str], SharedRun] = {}
        """By the claim's name and the request's digest."""
        self._group: TaskGroup | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Runs are carried out within; what is under way at the end is cancelled."""
        try:
            async with anyio.create_task_group() as self._group:
                yield
                self._group.cancel_scope.cancel()
        finally:
            self._group = None

    @asynccontextmanager
    async def joined(
        self, *, caller: str, key: str, digest: str, execution_id: str, work: Work, quota_bytes: int = 0
    ) -> AsyncIterator[SharedRun]:
        """The run of this key and this request: begun by this call, or by one before it.

        `quota_bytes` is what the caller's outcomes may take with its files.
        """
        keyed = Keyed(claim_name(caller, key), digest, caller, quota_bytes)
        # No await between the last look and `wanted`: else it could be abandoned in between.
        while (run := self._runs.get(keyed.run)) is not None and run.is_abandoned:
            await run.over()
        with (run or self._start(keyed, execution_id, work)).wanted() as joined:
            yield joined

    def _start(self, keyed: Keyed, execution_id: str, work: Work) -> SharedRun:
        if self._group is None:
            raise PoolClosed("The service is starting, or shutting down.")
        run = self._runs[keyed.run] = SharedRun(execution_id)
        self._group.start_soon(self._carry_out, keyed, run, work)
        return run

    async def _carry_out(self, keyed: Keyed, run: SharedRun, work: Work) -> None:
        """Never raises: the tasks of others are in the same group."""
        try:
            with run.scope:
                await self._once(keyed, run, work)
        except Exception as error:
            log_failure(error)
            run.fail(error)
        finally:
            run.fail_unless_ended()
            del self._runs[keyed.run]
            run.finish()

    async def _once(self, keyed: Keyed, run: SharedRun, work: Work) -> None:
        mine = self.claims.new(keyed.digest, keyed.tenant)
        standing = await self.claims.make(keyed.name, mine, quota_bytes=keyed.quota_bytes)
        # Ours may be the one that was there: made, and its answer was lost, in this call or in one before it.
        if standing.nonce != mine.nonce and not self.claims.takes_over(standing, keyed.digest):
            return await self._recall(run, standing, digest=keyed.digest)
        try:
            await work(run)
        except Exception as error:
            run.fail(error)
            run.has_begun = run.has_begun and may_have_run(error)
            raise
        finally:
            await self._settle(keyed.name, standing, run)

    async def _recall(self, run: SharedRun, standing: Claim, *, digest: str) -> None:
        if standing.digest != digest:
            raise KeyReused("The Idempotency-Key was used with another request; give each request a key of its own.")
        record = await self.claims.outcome(standing)
        if record is None:
            raise missing_outcome(standing, owner=self.claims.owner, now=self.claims.clock())
        run.recall(record)

    async def _settle(self, name: str, claim: Claim, run: SharedRun) -> None:
        """Whatever happens: the outcome is stored, or the key is free again where nothing has run."""
        run.fail_unless_ended()
        with anyio.CancelScope(shield=True), anyio.move_on_after(SETTLE_SECONDS), suppress(BrokerError):
            if run.has_begun:
                await self.claims.record(claim, run.record())
            else:
                await self.claims.release(name)


def may_have_run(error: Exception) -> bool:
    """The pool's and the broker's refusals come before the program does; a cancelling may come at any time."""
    return isinstance(error, ExecutionCancelled) or not isinstance(error, BrokerError | PoolError | InputsRefused)


def missing_outcome(standing: Claim, *, owner: str, now: float) -> BrokerError:
    """What a claim without an outcome means. A replica knows its own runs, and of others' when they must be over."""
    seconds = standing.until - now
    if standing.owner == owner or seconds <= 0:
        return OutcomeUnknown(
            "The request with this Idempotency-Key was begun, and how it ended is not known: its program may have run."
            " Use another key to run it again."
        )
    return KeyInUse(
        f"The request with this Idempotency-Key is under way on another replica, for {math.ceil(seconds)} s at most.",
        retry_after_seconds=min(RETRY_AFTER_SECONDS, seconds),
    )
