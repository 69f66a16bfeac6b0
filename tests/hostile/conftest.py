"""One pool for each file of attacks, and after each attack the proof that it left nothing and harmed nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pool import RunLimits
from tests import places
from tests.hostile.estates import AnyEstate, estate_of
from tests.places import Place, place, pods_namespace
from tests.sandboxes import Sandboxes

__all__ = ["boxes", "estate", "limits", "place", "pods_namespace"]

LOCAL_ONLY = {
    "test_steps": "leaves out steps of the launcher's, and is after things of this machine",
    "test_no_step_left_out": "about the settings of the local backend, and the source",
    "test_death_of_service": "about the launcher's processes, mounts and cgroups; pods: tests/kube/faults",
    "test_supervisor_lies": "has a fake for a sandbox",
    "test_recycling": "plants by hand what no program can; the proof is the same code in pods",
    "test_the_sandbox_has_no_interface_that_leads_anywhere": "a pod has one, which policy and the filter close",
    "test_a_program_has_one_core": "the operator gives a pod its CPU",
    "test_a_closed_workspace_is_reported": "a pod's is the kubelet's, and no program can close it",
    "test_too_many_files_are_an_error_where_the_mount_can_count": "an emptyDir counts bytes alone",
    "test_a_timeout_with_no_inode_left_names_both": "the same",
}
"""Files and tests that pods are left out of, with the reason. (Of these files none asks for a place at all.)"""

PODS_ONLY = {"test_too_many_files_end_the_run_where_no_mount_counts"}

FOR_ONE_RUN_TOO = {
    "test_no_signal_reaches_zygote_or_supervisor",
    "test_bytes_to_every_other_descriptor_reach_nothing",
    "test_nothing_listens_in_the_sandbox",
    "test_a_forged_status_lies_about_the_forger_only",
    "test_a_fork_bomb_starves_nobody_and_leaves_none",
    "test_many_processes_that_take_too_much_end_the_run",
    "test_nothing_is_left_for_the_next_run",
    "test_a_secret_of_one_run_is_not_in_the_memory_of_the_next",
    "test_links_are_not_followed",
    "test_a_signal_shows_in_code_and_name",
}
"""Tests that run in pods of one run each besides: one or two of each kind."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    places.parametrize(metafunc, local_only=LOCAL_ONLY, pods_only=PODS_ONLY, for_one_run_too=FOR_ONE_RUN_TOO)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    nowhere = places.left_to_the_first_pass(items, PODS_ONLY)
    config.hook.pytest_deselected(items=nowhere)
    items[:] = [item for item in items if item not in nowhere]


@pytest.fixture(scope="module")
def limits() -> RunLimits:
    """What the file's sandboxes may use; a file with smaller ones overrides it."""
    return RunLimits()


@pytest.fixture(scope="module")
def estate(place: Place, limits: RunLimits) -> Iterator[AnyEstate]:
    with estate_of(place, limits=limits) as estate:
        yield estate


ALIVE = "import os; print('alive beside', sum(map(str.isdigit, os.listdir('/proc'))) - 1)"


@pytest.fixture
def boxes(estate: AnyEstate) -> Iterator[Sandboxes]:
    """Sandboxes to attack. Afterwards the next program works, beside ours alone, and nothing is left."""
    yield estate.boxes
    assert estate.boxes.run(ALIVE).stdout == "alive beside 2\n"
    assert estate.leftovers() == []
