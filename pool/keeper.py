"""One task for each sandbox, from its Create until nothing of it is left.

The task is what makes I7 true: whatever happens to it, cancelling included, its last act is to end the
sandbox and to say DELETED. A Delete is nothing but the cancelling of its scope.
"""

from __future__ import annotations

import math
from typing import Protocol

import anyio

from pool import canary, egress, policy
from pool.actions import Create
from pool.backend import Backend, Sandbox
from pool.conversation import Conversation
from pool.errors import ChannelLost, LocalProtocolError, RemoteProtocolError, SandboxLost, SandboxStartFailed
from pool.lease import Lease
from pool.observer import Observer
from pool.settings import PoolSettings, RunLimits
from pool.states import Event, Retirement, State
from sandbox_runtime import wire

PROBE_ANSWER_SECONDS = 5.0
"""Smaller retires sandboxes for a hiccup of the machine; larger keeps a dead one in stock for longer."""

CLEAN_SECONDS = 15.0
"""For a cleaning. It takes 4 ms as a rule, and wiping is given 5 s inside; more waits for a sandbox not worth it."""

RENEW_SECONDS = 10.0
"""For one attempt to have another channel and its hello. Shorter gives up on busy nodes; longer waits for a stream that
is frozen."""

LONGEST_PAUSE_SECONDS = 3.0
"""Between two attempts. Shorter crowds an API server that is just coming back; longer is added to the wait of those who
are to be served within 10 s of its return."""

ACKNOWLEDGE_SECONDS = 1.0
"""For a few bytes on a channel that was heard a moment ago. A pod that was not told ends a second later."""

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

    def state(self, slot: str) -> State: ...

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
        self._is_warm = self._was_leased = self._is_to_be_cleaned = self._is_cut = False
        self._duty = anyio.Event()
        self._egress_at = 0.0
        self._scope = anyio.CancelScope()

    @property
    def missing(self) -> tuple[str, ...]:
        """Steps of the lock-down that it does without, as far as it is known."""
        return () if self._conversation is None else self._conversation.missing

    # --- told by the pool, at once ---

    def grant(self) -> Lease:
        if self._sandbox is None or self._conversation is None:
            raise AssertionError("granted before it was started")
        self._was_leased = True
        self.lease = Lease(self._conversation, self._sandbox)
        return self.lease

    def recycle(self) -> None:
        """Its holder has left: clean it, from the keeper's own task."""
        self.lease = None
        self._is_to_be_cleaned = True
        self._duty.set()

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

    def on_cut(self) -> None:
        """Its channel has ended. Whoever runs something there has noticed, and has another by itself; a session has
        none."""
        if self.lease is not None and self.lease.is_session:
            self.lease.over.set()
        if self._books.state(self._order.slot) in (State.READY, State.PROBING):
            self._is_cut = True
            self._duty.set()

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
            conversation = await self._start()
        except SandboxStartFailed as error:
            self._books.failed(self._order.slot, error)
            return
        self._is_warm = True
        event = Event.PROVED if self._order.canary else Event.STARTED
        self._books.started(self._order.slot, event, seconds=anyio.current_time() - began)
        while True:
            await self._do_next(conversation)

    async def _start(self) -> Conversation:
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

    async def _make_warm(self) -> Conversation:
        books = self._books
        self._sandbox = await books.backend.create(
            self._order.slot, on_lost=self.on_lost, on_cut=self.on_cut, limits=books.limits
        )
        conversation = Conversation(self._sandbox.channel, books.limits, self._sandbox.reconnect)
        conversation.runs = self._sandbox.runs
        self._conversation = conversation
        await self._hear_hello(conversation, self._sandbox)
        await egress.prove(conversation, books.backend.unreachable())
        self._egress_at = anyio.current_time()
        if self._order.canary or books.settings.canary_each:
            await canary.prove(conversation)
        if books.settings.canary_each:
            await self._clean_after_canary(conversation)
        return conversation

    async def _hear_hello(self, conversation: Conversation, sandbox: Sandbox) -> None:
        """Its first words; through another channel where the first one finds a supervisor that is just leaving."""
        try:
            hello = await conversation.hello(math.inf)
        except ChannelLost:
            hello = await self._renewed(conversation, sandbox)
        self._check(hello)

    async def _clean_after_canary(self, conversation: Conversation) -> None:
        cleaned = await conversation.clean(anyio.current_time() + CLEAN_SECONDS)
        if cleaned.findings:
            raise SandboxStartFailed(f"it was not clean after its canary: {cleaned.findings[0]}", reason="canary")

    def _check(self, hello: wire.Hello) -> None:
        # SECURITY: what was there when the backend started and is not there now is no reason to run with less
        # (tests/integration/test_hello.py).
        lacking = [name for name in self._books.backend.isolation().lockdown if name not in hello.lockdown]
        if lacking:
            raise SandboxStartFailed(f"its lock-down lacks {', '.join(lacking)}", reason="lockdown")

    # --- while it is there ---

    async def _do_next(self, conversation: Conversation) -> None:
        """Wait for the next thing to do for it, and do that."""
        with anyio.move_on_after(policy.probe_delay_seconds(self._books.settings.probe_seconds, self._books.jitter())):
            await self._duty.wait()
        self._duty = anyio.Event()
        if self._is_to_be_cleaned:
            self._is_to_be_cleaned = False
            await self._clean(conversation)
        elif self._is_cut:
            await self._have_another_channel(conversation)
        elif self._books.state(self._order.slot) is State.READY:
            self._books.saw(self._order.slot, Event.PROBE)
            await self._probe(conversation)

    async def _clean(self, conversation: Conversation) -> None:
        began = anyio.current_time()
        try:
            cleaned = await conversation.clean(began + CLEAN_SECONDS)
        except (RemoteProtocolError, LocalProtocolError, SandboxLost):
            self._condemn(Retirement.NOT_CLEAN)
            return
        self._books.observer.sandbox_cleaned(seconds=anyio.current_time() - began, findings=len(cleaned.findings))
        if cleaned.findings:
            self._condemn(Retirement.NOT_CLEAN)
        else:
            self._books.saw(self._order.slot, Event.CLEANED)

    async def _probe(self, conversation: Conversation) -> None:
        try:
            await conversation.probe(anyio.current_time() + PROBE_ANSWER_SECONDS)
            reached = await self._reached_again(conversation)
        except ChannelLost:
            await self._have_another_channel(conversation)
        except (RemoteProtocolError, LocalProtocolError, SandboxLost):
            self._condemn(Retirement.PROBE_FAILED)
        else:
            if reached:
                self._condemn(Retirement.REACHED_OUT)
            else:
                self._books.saw(self._order.slot, Event.ALIVE)

    async def _reached_again(self, conversation: Conversation) -> list[str]:
        now = anyio.current_time()
        if now - self._egress_at < self._books.settings.egress_seconds:
            return []
        self._egress_at = now
        return await egress.reached(conversation, self._books.backend.unreachable())

    async def _have_another_channel(self, conversation: Conversation) -> None:
        """While it has none it is not leased. For as long as the sandbox lives: a cluster whose API is away for a
        while is no reason to throw its pods away."""
        if self._sandbox is None:
            raise AssertionError("cut before it was made")
        if self._books.state(self._order.slot) is State.READY:
            self._books.saw(self._order.slot, Event.PROBE)
        try:
            self._check(await self._renewed(conversation, self._sandbox))
        except (SandboxStartFailed, RemoteProtocolError, SandboxLost):
            self._condemn(Retirement.PROBE_FAILED)
        else:
            self._books.saw(self._order.slot, Event.ALIVE)

    async def _renewed(self, conversation: Conversation, sandbox: Sandbox) -> wire.Hello:
        failures = 0
        while sandbox.reconnect is not None:
            self._is_cut = False
            try:
                with anyio.move_on_after(RENEW_SECONDS):
                    return await conversation.renew(await sandbox.reconnect(), math.inf)
            except ChannelLost:
                failures += 1
            await anyio.sleep(min(LONGEST_PAUSE_SECONDS, policy.backoff_seconds(failures or 1, self._books.jitter())))
        raise SandboxLost("its channel was lost, and there is no other")

    def _condemn(self, reason: Retirement) -> None:
        self._books.saw(self._order.slot, Event.CONDEMN, reason)

    # --- its end ---

    async def _unmake(self) -> None:
        """End what was made. Tried again until it works, or until the pool gives up and closes the backend."""
        await self._acknowledge()
        await self._let_the_answer_go_first()
        if await self._handed_over():
            return
        failures = 0
        while self._sandbox is not None and not await self._destroyed(self._sandbox):
            failures += 1
            await anyio.sleep(policy.backoff_seconds(failures, self._books.jitter()))

    async def _acknowledge(self) -> None:
        if self._conversation is not None:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + ACKNOWLEDGE_SECONDS) as scope:
                await self._conversation.acknowledge(scope.deadline)

    async def _let_the_answer_go_first(self) -> None:
        # After an uneventful run only: then no program lives in it any more.
        seconds = self._books.settings.answer_first_seconds
        if self.reason is Retirement.USED and seconds:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)

    async def _handed_over(self) -> bool:
        """When the pool closes, what nobody has used is worth something to whoever comes after."""
        if self._sandbox is None or self._conversation is None or not self._is_warm or self._was_leased:
            return False
        if self.reason is not Retirement.CLOSING:
            return False
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + DESTROY_SECONDS):
            try:
                return await self._sandbox.hand_over(self._conversation.runs)
            except Exception as error:
                self._books.observer.destroy_failed(sandbox=self._sandbox.name, text=f"{type(error).__name__}: {error}")
        return False

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
