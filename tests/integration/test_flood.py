"""One tenant floods a service with real sandboxes; another asks, and is not made to wait for it.

Held by order, not by the clock: how many runs of the flood are granted a sandbox between the other's want and its
grant. `benchmarks/flood.py` measures the times that come of it; `tests/unit/test_ledger_flood.py` simulates hours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from pool import ANYBODY, Caller
from pool.actions import Action, Grant, Refusal
from pool.ledger import Ledger
from pool.slots import Slot
from pool.waiting import WaiterId
from tests.http_service import Running
from tests.tenants import client_of, key_file

CROWD = 24
"""Requests of the flood that are there at any time."""
WAITING = 16
"""Of those, in the queue when the other asks; the rest run, or are on their way."""
MOST_AHEAD = 3
TellApart = Callable[[Caller], Caller]


class Want(msgspec.Struct):
    who: str
    waiting: int
    """How many waited when it came."""
    granted_before: int
    granted_at: int = -1

    @property
    def ahead(self) -> int:
        """How many others were granted a sandbox while it waited."""
        return self.granted_at - self.granted_before


class Turns:
    """Writes down every want and every grant of a ledger; `told_apart` is what callers are to its queue."""

    def __init__(self, ledger: Ledger, told_apart: TellApart) -> None:
        self.wants: dict[WaiterId, Want] = {}
        self._granted = 0
        self._ledger = ledger
        self._want, self._grant, self._told_apart = ledger.want, ledger._grant, told_apart
        vars(ledger).update(want=self.want, _grant=self.grant)

    def want(self, waiter: WaiterId, *, caller: Caller, deadline: float, now: float) -> list[Action] | Refusal:
        self.wants[waiter] = Want(caller.name, len(self._ledger.waiting), self._granted)
        return self._want(waiter, caller=self._told_apart(caller), deadline=deadline, now=now)

    def grant(self, slot: Slot, caller: str, now: float) -> Grant:
        found = self._grant(slot, caller, now)
        self.wants[found.waiter].granted_at = self._granted
        self._granted += 1
        return found

    def of(self, who: str) -> list[Want]:
        return [each for each in self.wants.values() if each.who == who]


@contextmanager
def flood(client: httpx.Client) -> Iterator[None]:
    """So many callers, each of whom asks again as soon as it is answered."""
    is_over, statuses = threading.Event(), list[int]()

    def ask_again_and_again() -> None:
        while not is_over.is_set():
            statuses.append(execute(client))

    threads = [threading.Thread(target=ask_again_and_again) for _ in range(CROWD)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        is_over.set()
        for each in threads:
            each.join()
    assert set(statuses) == {200}


def execute(client: httpx.Client) -> int:
    return client.post("/v1/execute", json={"code": "print(1)"}).status_code


@pytest.fixture
def asked_beside_a_flood(make_service: Any, tmp_path: Path) -> Iterator[Callable[[TellApart, int], list[Want]]]:
    """`(told_apart, times)`: bob asks so often, one after the other, while ana's crowd waits."""
    with ExitStack() as stack:

        def ask(told_apart: TellApart, times: int) -> list[Want]:
            settings = {"pool_size": 2, "max_in_flight": 2, "execution_queue_timeout_sec": 60}
            service: Running = make_service("local", keys_file=key_file(tmp_path), **settings)
            ana, bob = (stack.enter_context(client_of(service.url, name)) for name in ("ana", "bob"))
            ledger = service.service.pool._ledger
            turns = Turns(ledger, told_apart)
            with flood(ana):
                for _ in range(times):
                    service.until(lambda: len(ledger.waiting) >= WAITING, seconds=60)
                    assert execute(bob) == 200
            return turns.of("bob")

        yield ask


@pytest.mark.slow
def test_who_asks_beside_a_flood_is_next_but_three_at_most(asked_beside_a_flood: Any) -> None:
    wants = asked_beside_a_flood(lambda caller: caller, 12)
    assert len(wants) == 12
    assert all(each.ahead <= MOST_AHEAD for each in wants), wants


@pytest.mark.slow
def test_without_tenants_it_would_wait_for_all_that_came_before_it(asked_beside_a_flood: Any) -> None:
    # That the flood is one, and the first test could fail.
    wants = asked_beside_a_flood(lambda _: ANYBODY, 3)
    assert len(wants) == 3
    assert all(each.ahead == each.waiting >= WAITING for each in wants), wants
