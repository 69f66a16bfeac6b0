"""Over many runs in one pod: each program leaves whatever it can, and looks for what the one before it left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration import residue, residue_in_times
from tests.integration.residue import RUNS, Seen
from tests.places import PodsOfACluster
from tests.sandboxes import SCIENCE, Sandboxes


@pytest.fixture(scope="module")
def boxes(pods: PodsOfACluster) -> Iterator[Sandboxes]:
    with pods.sandboxes(preload=SCIENCE) as boxes:
        yield boxes


@pytest.fixture(scope="module")
def seen(boxes: Sandboxes, pytestconfig: pytest.Config) -> Seen:
    return residue.searched(lambda *words: found(boxes, *words), pytestconfig)


def found(boxes: Sandboxes, source: str, *arguments: str) -> Any:
    result = boxes.run(source, args=arguments, timeout_ms=20_000)
    assert result.exit_code == 0, (result.outcome, result.stderr)
    return json.loads(result.stdout)


def test_no_program_finds_anything_of_those_before_it(seen: Seen):
    assert seen.residues == {}, seen.examples


def test_all_were_in_one_pod_which_passed_every_proof(seen: Seen):
    assert sorted(seen.runs.values())[-1] >= RUNS - 1
    assert len(seen.runs) <= 2  # the canary's, and the one that took its place


def test_chance_is_another_in_each_run(seen: Seen):
    for drawn in zip(*seen.random, strict=True):
        assert len(set(map(str, drawn))) == RUNS


def test_much_was_left(seen: Seen):
    steps = {"files", "odd_names", "fonts", "held_files", "daemon"}
    steps |= {"in_flight", "of_ours", "mine", "modules_and_state", "limits_of_mine"}
    assert {step for step, count in seen.left.items() if count == RUNS} >= steps


def test_a_program_finds_what_it_left_itself(boxes: Sandboxes):
    """Whoever looks would see it."""
    seen = set(found(boxes, residue.ITSELF, os.urandom(12).hex()))
    assert seen >= {"environment", "working folder", "umask", "limits", "processes", "descriptors", "signals"}
    assert seen >= {"modules", "settings", "memory", "place /workspace", "place /tmp", "place /dev/shm"}


def test_no_time_tells_what_the_last_program_has_looked_at_or_touched(boxes: Sandboxes):
    """In a pod the devices are the container's own, and their times a program's to set."""
    assert residue_in_times.searched(lambda *words: found(boxes, *words), 5) == []


LEAVE_A_TIME = """
import os
open("/dev/shm/note", "w").close()
os.unlink("/dev/shm/note")
print(os.stat("/dev/shm").st_mtime_ns)
"""


def test_a_place_that_is_not_the_programs_own_tells_when_it_was_cleaned_and_not_of_the_last_program(boxes: Sandboxes):
    left = found(boxes, LEAVE_A_TIME)
    assert found(boxes, "import os; print(os.stat('/dev/shm').st_mtime_ns)") > left
