"""One task for each sandbox, from its Create until nothing of it is left.

The task is what makes I7 true: whatever happens to it, cancelling included, its last act is to end the
sandbox and to say DELETED. A Delete is nothing but the cancelling of its scope.
"""

from __future__ import annotations

import math
from typing import Protocol

import anyio

from pool import canary, policy
from pool.actions import Create
from pool.backend import Backend, Sandbox
from pool.conversation import Conversation
from pool.errors import LocalProtocolError, RemoteProtocolError, SandboxLost, SandboxStartFailed
from pool.lease import Lease
from pool.observer import Observer
from pool.settings import PoolSettings, RunLimits
from pool.states import Event, Retirement
from sandbox_runtime import wire

PROBE_ANSWER_SECONDS = 5.0
"""Smaller retires sandboxes for a hiccup of the machine; larger keeps a dead one in stock for longer."""

DESTROY_SECONDS = 10.0
"""For one attempt to end a sandbox. Smaller piles up attempts; larger lets one that hangs hold its slot."""


class Books(Protocol):
    """What a keeper reports to: the pool."""

    settings: PoolSettings
    limits: RunLimits
    backend: Backend
    observer: Observer

    def saw(self, slot: str, event: Event, reason: Retirement = Retirement.LOST) -> None: ...

    def started(self, slot: str, event: Event, *, seconds: float) -> None: ...

    def failed(self, slot: str, error: SandboxStartFailed) -> None: ...

    def lost(self, slot: str) -> None: ...

    def is_idle(self, slot: str) -> bool: ...

    def jitter(self) -> float: ...


class Keeper:
    """Keeps one sandbox."""

    def __init__(self, order: Create, books: Books) -> None:
        self.lease: Lease | None = None
        """Of the present holder."""
        self.reason = Retirement.CLOSING
        self._order = order
        self._books = books
        self._sandbox: Sandbox | None = None
        self._conversation: Conversation | None = None
        self._scope = anyio.CancelScope()

    # --- told by the pool, at once ---

    def grant(self) -> Lease:
        if self._sandbox is None or self._conversation is None:
            raise AssertionError("granted before it was started")
        self.lease = Lease(self._conversation, sandbox=self._sandbox.name, isolation=self._books.backend.isolation())
        return self.lease

    def end(self, reason: Retirement) -> None:
        """End the sandbox, or its start, from the keeper's own task."""
        self.reason = reason
        if self.lease is not None:
            self.lease.cut()
        self._scope.cancel()

    def on_lost(self) -> None:
        if self.lease is not None:
            self.lease.lost()
        self._books.lost(self._order.slot)

    # --- the task ---

    async def keep(self) -> None:
        try:
            await self._live_and_end()
        finally:
            self._books.saw(self._order.slot, Event.DELETED)

    async def _live_and_end(self) -> None:
        try:
            with self._scope:
                await self._live()
        finally:
            await self._unmake()

    async def _live(self) -> None:
        await anyio.sleep_until(self._order.not_before)
        began = anyio.current_time()
        try:
            await self._start()
        except SandboxStartFailed as error:
            self._books.failed(self._order.slot, error)
            return
        event = Event.PROVED if self._order.canary else Event.STARTED
        self._books.started(self._order.slot, event, seconds=anyio.current_time() - began)
        await self._probe_for_ever()

    async def _start(self) -> None:
        """Bring it to where it may be leased. Any failure becomes a `SandboxStartFailed`."""
        allowed_seconds = self._books.settings.start_seconds
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + allowed_seconds):
                return await self._make_warm()
        except SandboxStartFailed:
            raise
        except (RemoteProtocolError, SandboxLost) as error:
            raise SandboxStartFailed(str(error), reason="hello") from error
        except Exception as error:  # a backend's own trouble must not take the whole pool down
            raise SandboxStartFailed(f"{type(error).__name__}: {error}", reason="error") from error
        raise SandboxStartFailed(f"not warm after {allowed_seconds:.2f} s", reason="timeout")

    async def _make_warm(self) -> None:
        books = self._books
        self._sandbox = await books.backend.create(self._order.slot, on_lost=self.on_lost)
        self._conversation = Conversation(self._sandbox.channel, books.limits)
        self._check(await self._conversation.hello(math.inf))
        if self._order.canary:
            await canary.prove(self._conversation)

    def _check(self, hello: wire.Hello) -> None:
        # SECURITY: what was there when the backend started and is not there now is no reason to run with less
        # (tests/integration/test_hello.py).
        lacking = [name for name in self._books.backend.isolation().lockdown if name not in hello.lockdown]
        if lacking:
            raise SandboxStartFailed(f"its lock-down lacks {', '.join(lacking)}", reason="lockdown")

    async def _probe_for_ever(self) -> None:
        while True:
            await anyio.sleep(policy.probe_delay_seconds(self._books.settings.probe_seconds, self._books.jitter()))
            if self._books.is_idle(self._order.slot):
                self._books.saw(self._order.slot, Event.PROBE)
                await self._probe()

    async def _probe(self) -> None:
        if self._conversation is None:
            raise AssertionError("probed before it was started")
        try:
            await self._conversation.probe(anyio.current_time() + PROBE_ANSWER_SECONDS)
        except (RemoteProtocolError, LocalProtocolError, SandboxLost):
            self._books.saw(self._order.slot, Event.CONDEMN, Retirement.PROBE_FAILED)
        else:
            self._books.saw(self._order.slot, Event.ALIVE)

    async def _unmake(self) -> None:
        """End what was made. Tried again until it works, or until the pool gives up and closes the backend."""
        await self._let_the_answer_go_first()
        failures = 0
        while self._sandbox is not None and not await self._destroyed(self._sandbox):
            failures += 1
            await anyio.sleep(policy.backoff_seconds(failures, self._books.jitter()))

    async def _let_the_answer_go_first(self) -> None:
        # After an uneventful run only: then no program lives in it any more.
        seconds = self._books.settings.answer_first_seconds
        if self.reason is Retirement.USED and seconds:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)

    async def _destroyed(self, sandbox: Sandbox) -> bool:
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + DESTROY_SECONDS):
            try:
                await sandbox.destroy()
                return True
            except Exception as error:
                self._books.observer.destroy_failed(sandbox=sandbox.name, text=f"{type(error).__name__}: {error}")
                return False
        self._books.observer.destroy_failed(sandbox=sandbox.name, text=f"not ended after {DESTROY_SECONDS:.0f} s")
        return False
