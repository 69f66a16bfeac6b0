"""Who waits for a sandbox: callers in turn, and first come first served within a caller. Pure.

A caller with a thousand requests delays another caller's first one by one turn, not by a thousand.
"""

from __future__ import annotations

from typing import NewType

WaiterId = NewType("WaiterId", int)


class Waiting:
    """A queue for each caller; the callers stand in a circle. Each removal costs O(callers)."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        # Plain dicts are ordered: the first key is the next in turn, and any key can be taken out in O(1).
        self._queues: dict[str, dict[WaiterId, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __contains__(self, waiter: WaiterId) -> bool:
        return any(waiter in queue for queue in self._queues.values())

    def add(self, waiter: WaiterId, caller: str) -> None:
        self._queues.setdefault(caller, {})[waiter] = None

    def remove(self, waiter: WaiterId) -> bool:
        """Take out one that gave up. False when it does not wait (any more)."""
        for caller, queue in self._queues.items():
            if waiter in queue:
                del queue[waiter]
                self._forget_if_empty(caller)
                return True
        return False

    def next(self) -> WaiterId:
        """Take out the one whose turn it is; its caller goes to the end of the circle."""
        caller, queue = next(iter(self._queues.items()))
        waiter = next(iter(queue))
        del queue[waiter]
        del self._queues[caller]
        if queue:
            self._queues[caller] = queue
        return waiter

    def clear(self) -> list[WaiterId]:
        everybody = [waiter for queue in self._queues.values() for waiter in queue]
        self._queues.clear()
        return everybody

    def ahead_of(self, caller: str) -> int:
        """How many are served before one more of this caller would be."""
        mine = len(self._queues.get(caller, ()))
        return mine + sum(min(len(queue), mine + 1) for other, queue in self._queues.items() if other != caller)

    def _forget_if_empty(self, caller: str) -> None:
        if not self._queues[caller]:
            del self._queues[caller]
