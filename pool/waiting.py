"""Who waits for a sandbox: callers in turn, and first come first served within a caller. Pure.

Whose last turn is longest ago is next. A caller with a thousand requests so delays another caller's first one by
nothing, and its second by one turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NewType

from pool.caller import Caller

WaiterId = NewType("WaiterId", int)


class Waiting:
    """A queue for each caller. Each removal costs O(callers that wait)."""

    __slots__ = ("_callers", "_queues", "_serial", "_turns")

    def __init__(self) -> None:
        # Plain dicts are ordered: the first key has come first, and any key can be taken out in O(1).
        self._queues: dict[str, dict[WaiterId, None]] = {}
        self._callers: dict[str, Caller] = {}
        """Of those that wait, as each was when it last came: its limits may change while others of it wait."""
        self._turns: dict[str, int] = {}
        """When each had its last turn, counted in turns. It outlasts the caller's wait: whoever asks for one at a time
        would else stand behind a flood each time. Forgotten when nobody waits."""
        self._serial = 0

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __contains__(self, waiter: WaiterId) -> bool:
        return any(waiter in queue for queue in self._queues.values())

    def add(self, waiter: WaiterId, caller: Caller) -> None:
        self._queues.setdefault(caller.name, {})[waiter] = None
        self._callers[caller.name] = caller

    def callers(self) -> list[Caller]:
        """Those of whom somebody waits, the next in turn first."""
        return [self._callers[name] for name in sorted(self._queues, key=self._turn)]

    def count(self, caller: str) -> int:
        return len(self._queues.get(caller, ()))

    def remove(self, waiter: WaiterId) -> bool:
        """Take out one that gave up. False when it does not wait (any more)."""
        for caller, queue in self._queues.items():
            if waiter in queue:
                self._take_out(waiter, caller)
                return True
        return False

    def take(self, caller: str) -> WaiterId:
        """Take out the first of a caller, whose turn this was."""
        waiter = next(iter(self._queues[caller]))
        self._serial += 1
        self._turns[caller] = self._serial
        self._take_out(waiter, caller)
        return waiter

    def clear(self) -> list[WaiterId]:
        everybody = [waiter for queue in self._queues.values() for waiter in queue]
        for each in (self._queues, self._callers, self._turns):
            each.clear()
        return everybody

    def ahead_of(self, caller: str, may_have: Callable[[Caller], int]) -> int:
        """How many are served before one more of this caller would be; of each other caller at most `may_have`."""
        mine, turn = self.count(caller), self._turn(caller)
        return mine + sum(
            min(may_have(self._callers[other]), mine + (self._turn(other) <= turn))
            for other in self._queues
            if other != caller
        )

    def _turn(self, caller: str) -> int:
        return self._turns.get(caller, 0)

    def _take_out(self, waiter: WaiterId, caller: str) -> None:
        del self._queues[caller][waiter]
        if not self._queues[caller]:
            del self._queues[caller], self._callers[caller]
        if not self._queues:
            self._turns.clear()
