"""Who waits for a sandbox: callers in turn, and first come first served within a caller. Pure.

A caller with a thousand requests delays another caller's first one by one turn, not by a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NewType

from pool.caller import Caller

WaiterId = NewType("WaiterId", int)


class Waiting:
    """A queue for each caller; the callers stand in a circle. Each removal costs O(callers)."""

    __slots__ = ("_callers", "_queues")

    def __init__(self) -> None:
        # Plain dicts are ordered: the first key is the next in turn, and any key can be taken out in O(1).
        self._queues: dict[str, dict[WaiterId, None]] = {}
        self._callers: dict[str, Caller] = {}
        """Of those that wait, as each was when it last came: its limits may change while others of it wait."""

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __contains__(self, waiter: WaiterId) -> bool:
        return any(waiter in queue for queue in self._queues.values())

    def add(self, waiter: WaiterId, caller: Caller) -> None:
        self._queues.setdefault(caller.name, {})[waiter] = None
        self._callers[caller.name] = caller

    def callers(self) -> Iterable[Caller]:
        """Those of whom somebody waits, the next in turn first."""
        return map(self._callers.__getitem__, self._queues)

    def count(self, caller: str) -> int:
        return len(self._queues.get(caller, ()))

    def remove(self, waiter: WaiterId) -> bool:
        """Take out one that gave up. False when it does not wait (any more)."""
        for caller, queue in self._queues.items():
            if waiter in queue:
                del queue[waiter]
                self._forget_if_empty(caller)
                return True
        return False

    def take(self, caller: str) -> WaiterId:
        """Take out the first of a caller, which goes to the end of the circle."""
        queue = self._queues.pop(caller)
        waiter = next(iter(queue))
        del queue[waiter]
        if queue:
            self._queues[caller] = queue
        else:
            del self._callers[caller]
        return waiter

    def clear(self) -> list[WaiterId]:
        everybody = [waiter for queue in self._queues.values() for waiter in queue]
        self._queues.clear()
        self._callers.clear()
        return everybody

    def ahead_of(self, caller: str) -> int:
        """How many are served before one more of this caller would be."""
        mine = self.count(caller)
        return mine + sum(min(len(queue), mine + 1) for other, queue in self._queues.items() if other != caller)

    def _forget_if_empty(self, caller: str) -> None:
        if not self._queues[caller]:
            del self._queues[caller], self._callers[caller]
