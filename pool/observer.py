"""What the pool tells whoever counts: plain values, from the event loop, never awaited."""

from __future__ import annotations

from typing import Protocol

from pool.states import Retirement


class Observer(Protocol):
    """Must return at once and not raise. Every `reason` and `result` is one of a fixed set of words."""

    def lease_granted(self, *, warm: bool, wait_seconds: float) -> None:
        """`warm`: a sandbox was READY when it was asked for."""

    def lease_refused(self, *, reason: str, wait_seconds: float) -> None:
        """`saturated`, `timeout` or `closed`."""

    def sandbox_started(self, *, seconds: float) -> None:
        """One became warm, or passed as a canary: from the attempt's begin."""

    def sandbox_start_failed(self, *, reason: str, text: str) -> None:
        """`reason` as in `SandboxStartFailed`; the text is for logs."""

    def sandbox_retired(self, *, reason: Retirement) -> None:
        """Nothing of it is left."""

    def destroy_failed(self, *, sandbox: str, text: str) -> None:
        """It could not be ended, and is tried again. The text is for logs."""

    def sandbox_cleaned(self, *, seconds: float, findings: int) -> None:
        """After a run: with no findings it is used again."""

    def run_ended(self, *, result: str) -> None:
        """A `Reason`; or `refused`, `lost`, `misbehaved`, `cancelled`."""


class NullObserver:
    """Counts nothing."""

    def lease_granted(self, *, warm: bool, wait_seconds: float) -> None: ...

    def lease_refused(self, *, reason: str, wait_seconds: float) -> None: ...

    def sandbox_started(self, *, seconds: float) -> None: ...

    def sandbox_start_failed(self, *, reason: str, text: str) -> None: ...

    def sandbox_retired(self, *, reason: Retirement) -> None: ...

    def destroy_failed(self, *, sandbox: str, text: str) -> None: ...

    def sandbox_cleaned(self, *, seconds: float, findings: int) -> None: ...

    def run_ended(self, *, result: str) -> None: ...


class OnlyTroubles(NullObserver):
    """Passes on what an operator must see to: of a pool whose leases are counted elsewhere."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def sandbox_start_failed(self, *, reason: str, text: str) -> None:
        self._observer.sandbox_start_failed(reason=reason, text=text)

    def destroy_failed(self, *, sandbox: str, text: str) -> None:
        self._observer.destroy_failed(sandbox=sandbox, text=text)
