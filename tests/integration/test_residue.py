"""Over many runs in few sandboxes: each program leaves whatever it can, and looks for what the one before it left.

What a residue is, and how many runs: `residue.py`. The same in pods: `tests/kube/contract/test_residue_in_pods.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest
from anyio.from_thread import start_blocking_portal

from pool import PoolSettings, SandboxPool
from pool.local import LocalBackend, LocalPlan
from tests.contract.test_recycling import as_its_owner
from tests.fakes.pools import CountingObserver
from tests.hostile.aftermath import until
from tests.integration import residue, residue_in_times
from tests.integration.residue import RUNS, Seen
from tests.local_backends import children, templates
from tests.sandboxes import SCIENCE, Sandboxes, groups, plan

SANDBOXES = 2


class Tracked:
    """A pool whose sandboxes are used again and again, and what it said of them."""

    def __init__(self, boxes: Sandboxes, observer: CountingObserver) -> None:
        self.boxes, self.observer = boxes, observer

    def found(self, source: str, *arguments: str) -> Any:
        result = self.boxes.run(source, args=arguments, timeout_ms=20_000)
        assert result.exit_code == 0, (result.outcome, result.stderr)
        return json.loads(result.stdout)

    def cleanings(self) -> list[int]:
        """How many findings each had, once all are over."""
        assert until(lambda: self.boxes.portal.call(self.boxes.pool.snapshot).slots["ready"] == SANDBOXES)
        return self.observer.words("cleaned")


@contextmanager
def reused() -> Iterator[Tracked]:
    made = msgspec.structs.replace(plan(preload=SCIENCE), cleans=True)
    settings = PoolSettings(size=SANDBOXES, max_in_flight=SANDBOXES, max_runs_per_sandbox=10 * RUNS)
    observer = CountingObserver()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_pool(made, settings, observer)) as pool:
        yield Tracked(Sandboxes(pool, portal), observer)


@asynccontextmanager
async def _pool(made: LocalPlan, settings: PoolSettings, observer: CountingObserver) -> AsyncIterator[SandboxPool]:
    async with SandboxPool(settings, made.limits, LocalBackend(made, groups()), observer) as pool:
        yield pool


@pytest.fixture(scope="module")
def tracked() -> Iterator[Tracked]:
    with reused() as pool:
        yield pool


@pytest.fixture(scope="module")
def seen(tracked: Tracked, pytestconfig: pytest.Config) -> Seen:
    return residue.searched(tracked.found, pytestconfig)


def test_no_program_finds_anything_of_those_before_it(seen: Seen):
    assert seen.residues == {}, seen.examples


def test_each_sandbox_had_its_share_and_passed_every_proof(seen: Seen, tracked: Tracked):
    assert not any(tracked.cleanings())
    assert sorted(seen.runs.values()) >= [RUNS // SANDBOXES // 10] * SANDBOXES
    assert len(seen.runs) <= SANDBOXES + 1  # one that was the canary may have been replaced in between
    assert tracked.observer.words("retired") == ["canary"]


def test_chance_is_another_in_each_run(seen: Seen):
    for drawn in zip(*seen.random, strict=True):
        assert len(set(map(str, drawn))) == RUNS


def test_much_was_left(seen: Seen):
    """The steps that nothing refuses: they took place, and had to be undone."""
    steps = {"files", "odd_names", "fonts", "attributes", "inode_flags", "times_and_modes", "held_files", "daemon"}
    steps |= {"in_flight", "of_ours", "mine", "modules_and_state", "limits_of_mine"}
    assert {step for step, count in seen.left.items() if count == RUNS} >= steps


def test_much_was_refused(seen: Seen):
    assert not {"shared_memory", "semaphores", "messages", "queues", "keys", "mounts", "name"} & set(seen.left)


def test_a_program_finds_what_it_left_itself(tracked: Tracked):
    """Whoever looks would see it."""
    found = set(tracked.found(residue.ITSELF, os.urandom(12).hex()))
    assert found >= {
        "environment",
        "working folder",
        "umask",
        "niceness",
        "limits",
        "processes",
        "descriptors",
        "signals",
    }
    # Names of sockets are seen as a rule: those in flight are the kernel's to collect, at a moment of its own.
    assert found >= {"blocked signals", "timers", "modules", "settings", "sockets", "memory"}
    assert found >= {"place /workspace", "place /tmp", "place /dev/shm"}


def test_no_time_tells_what_the_last_program_has_looked_at_or_touched(tracked: Tracked):
    """Outside of its own places: /dev, and what /proc has beside the program's own processes."""
    assert residue_in_times.searched(tracked.found, 4 * SANDBOXES) == []


IN_FLIGHT = """
import socket
one, two = socket.socketpair()
named = socket.socket(socket.AF_UNIX)
named.bind(chr(0) + "note")
socket.send_fds(one, [b"x"], [named.fileno(), two.fileno(), one.fileno()])
socket.send_fds(two, [b"x"], [one.fileno(), two.fileno()])
print("1")
"""

TAKE_THE_NAME = """
import socket
socket.socket(socket.AF_UNIX).bind(chr(0) + "note")
print("1")
"""


def test_a_name_in_flight_outlives_its_program_but_meets_no_other(tracked: Tracked):
    # The kernel collects such sockets some time later, at the proof's word: else it fails, and the sandbox goes.
    for _ in range(20):
        assert tracked.found(IN_FLIGHT) == 1
        assert tracked.found(TAKE_THE_NAME) == 1


def test_a_sandbox_that_is_not_as_it_was_goes_and_another_comes(tracked: Tracked):
    tracked.cleanings()
    before = len(tracked.observer.words("retired"))
    changed = set(children(templates()[-1]))
    for zygote in changed:
        as_its_owner(zygote, lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 3))
    assert until(lambda: tracked.found("print(1)") == 1 and not changed & set(children(templates()[-1])))
    went = tracked.observer.words("retired")[before:]  # those of the test before may be told of late
    assert len(went) >= SANDBOXES
    assert set(went) == {"not_clean"}
    assert tracked.found("import os; print(os.getpriority(os.PRIO_PROCESS, 1))") == 0
