"""What the pool asks of a place that makes sandboxes. Two kinds exist: local and Kubernetes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from pool.settings import RunLimits
from pool.shared_session import SharedSession, SharedSessions


class Channel(Protocol):
    """A byte stream to one sandbox's supervisor."""

    async def receive(self) -> bytes:
        """The next bytes, at least one. Raises `SandboxLost` when the stream has ended (`ChannelLost` where another
        may be had)."""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises `SandboxLost` when the stream has ended."""


Target = tuple[str, str, int]
"""Protocol (`tcp` or `udp`), host, port."""

Reconnect = Callable[[], Awaitable[Channel]]
"""Gets another channel to the same sandbox. Raises `ChannelLost` when it may be had later, `SandboxLost` when never."""


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """How well this backend's sandboxes are held: `full`, `reduced` (see `missing`) or `none`."""

    level: str
    missing: tuple[str, ...] = ()
    network: str = "no_network"
    """How its network is held, in a word; `/health` tells it."""
    lockdown: tuple[str, ...] = ()
    """Steps that every sandbox must report in its hello: one that lacks any is not used."""

    def without(self, steps: Collection[str]) -> Isolation:
        """As a sandbox is held that says it does without these: nodes of a cluster may differ."""
        if not steps or self.level != "full":
            return self
        return msgspec.structs.replace(self, level="reduced", missing=tuple(steps))


class Sandbox(Protocol):
    """One sandbox: started, locked down, connected. The pool decides when it is warm."""

    @property
    def name(self) -> str: ...

    @property
    def channel(self) -> Channel: ...

    @property
    def was_out_of_memory(self) -> bool:
        """It ended because the kernel found no memory for it: a program may take its whole sandbox along."""

    @property
    def runs(self) -> int:
        """Programs that it has run before it was ours: the canary of a former owner, if it had one."""

    @property
    def reconnect(self) -> Reconnect | None:
        """None where the channel lives and dies with the sandbox."""

    async def destroy(self) -> None:
        """End it and all that is in it, now; returns when nothing of it is left. Safe to call twice."""

    async def hand_over(self, runs: int) -> bool:
        """Give it, which has had so many runs of ours and none of a caller, to another service of the kind.

        False where that cannot be.
        """

    @property
    def proof(self) -> str:
        """SHA-256 of what another channel to a session in it has to show; "" where there can be none."""

    async def share(self, session: SharedSession) -> None:
        """Let any service of the kind find it as this session. From here on it is not ours: `destroy` leaves it alone.

        Only where it has a `proof`. Raises `PoolTimeout`, and it is ours still.
        """


class Backend(Protocol):
    """Makes sandboxes. Entered once; on exit nothing of it is left."""

    name: str
    """`local` or `kubernetes`; a metric label."""

    def run(self) -> AbstractAsyncContextManager[None]:
        """Own the backend's background work for as long as the context is open."""

    async def create(
        self, slot: str, *, on_lost: Callable[[], None], on_cut: Callable[[], None], limits: RunLimits
    ) -> Sandbox:
        """Start a sandbox for `slot`: returns when its channel is open (its `hello` may still be under way).

        Cancelled or failed, it leaves nothing behind. `on_lost` is called at most once, from the event
        loop, when the sandbox has ended by itself; `on_cut` whenever its channel has, if it can have another.
        Raises `SandboxStartFailed`.
        """

    def unreachable(self) -> tuple[Target, ...]:
        """What no sandbox may be able to reach, each to prove it; none where the network is no network by nature."""

    def held(self, reason: str, text: str) -> None:
        """No sandbox can be made: for those who can tell an operator in their own way."""

    def isolation(self) -> Isolation:
        """Of a sandbox that says of no step that it could not be done."""

    @property
    def sessions(self) -> SharedSessions | None:
        """Those that any service of the kind serves; None where each keeps its own."""

    def generation(self) -> int:
        """Grows when idle sandboxes made before should be replaced: new settings, new template."""
