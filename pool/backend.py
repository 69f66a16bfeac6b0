"""What the pool asks of a place that makes sandboxes. Two kinds exist: local and Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec


class Channel(Protocol):
    """A byte stream to one sandbox's supervisor."""

    async def receive(self) -> bytes:
        """The next bytes, at least one. Raises `SandboxLost` when the stream has ended."""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises `SandboxLost` when the stream has ended."""


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """How well this backend's sandboxes are held: `full`, `reduced` (see `missing`) or `none`."""

    level: str
    missing: tuple[str, ...] = ()
    lockdown: tuple[str, ...] = ()
    """Steps that every sandbox must report in its hello: one that lacks any is not used."""


class Sandbox(Protocol):
    """One sandbox: started, locked down, connected. The pool decides when it is warm."""

    @property
    def name(self) -> str: ...

    @property
    def channel(self) -> Channel: ...

    async def destroy(self) -> None:
        """End it and all that is in it, now; returns when nothing of it is left. Safe to call twice."""


class Backend(Protocol):
    """Makes sandboxes. Entered once; on exit nothing of it is left."""

    name: str
    """`local` or `kubernetes`; a metric label."""

    def run(self) -> AbstractAsyncContextManager[None]:
        """Own the backend's background work for as long as the context is open."""

    async def create(self, slot: str, *, on_lost: Callable[[], None]) -> Sandbox:
        """Start a sandbox for `slot`: returns when its channel is open (its `hello` may still be under way).

        Cancelled or failed, it leaves nothing behind. `on_lost` is called at most once, from the event
        loop, when the sandbox has ended by itself. Raises `SandboxStartFailed`.
        """

    def isolation(self) -> Isolation:
        """As found when the backend started."""

    def generation(self) -> int:
        """Grows when idle sandboxes made before should be replaced: new settings, new template."""
