"""However the service ends, nothing of its sandboxes is left: no process, no mount, no cgroup."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.hostile.aftermath import Process, descendants, mounts, opened, processes, until
from tests.hostile.dying_service import PROGRAMS
from tests.sandboxes import CHECKOUT

AT_ONCE_SECONDS = 5.0
"""It takes 40 ms, and 250 ms with a fork bomb among the programs. The rest is for a machine with other things to do:
processes that die share the small weight that programs have beside all others."""

GROUPS_SECONDS = 2.0
"""After the last process."""


class Service:
    """A running service, and everything that it owns."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.groups: list[str] = json.loads(process.stdout.readline())
        self.owned = descendants(process.pid)
        [self.keeper] = [each for each in self.owned if each.parent == process.pid]

    def alive(self) -> list[Process]:
        """What is left of all these processes. Once the service is dead the keeper's is the machine's init to reap."""
        now = processes()
        there = [each for each in self.owned if each.pid in now and now[each.pid].started == each.started]
        return [each for each in there if each.pid != self.keeper.pid or not now[each.pid].is_dead]

    def left_groups(self) -> list[str]:
        return [group for group in self.groups if os.path.exists(group)]


@pytest.fixture
def service() -> Iterator[Service]:
    paths = {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/sandbox-runtime", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "tests.hostile.dying_service"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, cwd=CHECKOUT, env=paths, stdin=pipe, stdout=pipe) as process:
        try:
            yield Service(process)
        finally:
            process.kill()


def test_what_a_service_owns_is_known(service: Service):
    # Of each sandbox at least zygote, supervisor and program; keeper, nursery and template besides.
    assert len(service.owned) >= 3 + 3 * len(PROGRAMS)
    assert service.alive() == service.owned


def test_after_sigkill_nothing_is_left(service: Service):
    before = mounts()
    began = time.monotonic()
    service.process.kill()
    assert until(lambda: not service.alive(), AT_ONCE_SECONDS), service.alive()
    print(f"processes gone after {time.monotonic() - began:.3f} s")
    assert until(lambda: not service.left_groups(), GROUPS_SECONDS), service.left_groups()
    print(f"cgroups gone after {time.monotonic() - began:.3f} s")
    assert mounts() == before


def test_after_an_ordinary_end_nothing_is_left(service: Service):
    assert service.process.stdin is not None
    service.process.stdin.close()
    assert service.process.wait(timeout=60) == 0
    assert (service.alive(), service.left_groups()) == ([], [])


def test_the_next_start_removes_what_a_killed_keeper_left(service: Service):
    # Stopped, the service cannot put a new launcher in the dead one's place.
    service.process.send_signal(signal.SIGSTOP)
    os.kill(service.keeper.pid, signal.SIGKILL)
    assert until(lambda: all(each.pid == service.keeper.pid for each in service.alive()), 6 * AT_ONCE_SECONDS)
    service.process.kill()
    service.process.wait()
    assert service.left_groups() == service.groups
    with opened() as estate:
        assert service.left_groups() == []
        assert estate.boxes.run("print('alive')").stdout == "alive\n"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM], ids=lambda number: number.name)
def test_any_other_sudden_death_is_as_thorough(service: Service, number: signal.Signals):
    service.process.send_signal(number)
    assert until(lambda: not service.alive(), AT_ONCE_SECONDS), service.alive()
    assert until(lambda: not service.left_groups(), GROUPS_SECONDS), service.left_groups()
