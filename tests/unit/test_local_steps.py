"""Which steps of the lock-down every sandbox must report, as found when the backend starts."""

from __future__ import annotations

import pytest

from pool.backend import Isolation
from pool.local import cgroups, protections, steps
from sandbox_runtime.lockdown import REDUCED, STEPS

FULL = Isolation(level="full")


def expected(*missing: str, left_out: tuple[str, ...] = (), has_groups: bool = True) -> set[str]:
    return set(steps.expected(missing, left_out, has_groups=has_groups))


def test_where_nothing_is_missing_every_step_is_expected():
    assert expected() == set(STEPS)


@pytest.mark.parametrize(("protection", "step"), steps.OF_PROTECTION.items())
def test_what_the_machine_lacks_is_not_expected(protection: str, step: str):
    assert expected(protection) == set(STEPS) - {step}


def test_without_cgroups_none_is_expected():
    assert expected(has_groups=False) == set(STEPS) - {"control_group"}


def test_a_missing_controller_of_several_is_no_reason_to_expect_no_cgroup():
    assert expected("cpu cgroup") == set(STEPS)


def test_what_a_test_leaves_out_is_not_expected():
    assert expected(left_out=("seccomp", "landlock")) == set(STEPS) - {"seccomp", "landlock"}


def test_a_needed_protection_that_is_missing_excuses_no_step():
    # The operator accepts that with a switch, which leaves the step out by name.
    assert expected("seccomp filter", "user namespace") == set(STEPS)


def test_every_step_that_may_be_missing_has_its_protection():
    assert set(steps.OF_PROTECTION) == set(protections.WANTED)
    assert {*steps.OF_PROTECTION.values(), "control_group"} == REDUCED


def test_the_isolation_says_what_was_found_and_what_is_expected():
    found = Isolation(level="reduced", missing=("Landlock",))
    isolation = steps.isolation(found, cgroups.Groups(()), ())
    assert isolation.level == "reduced"
    assert isolation.missing == ("Landlock", "memory cgroup", "pids cgroup", "cpu cgroup")
    assert set(isolation.lockdown) == set(STEPS) - {"landlock", "control_group"}


def test_cgroups_that_were_refused_after_all_reduce_the_level():
    isolation = steps.isolation(FULL, cgroups.Groups(()), ())
    assert (isolation.level, isolation.missing[0]) == ("reduced", "memory cgroup")


def test_no_isolation_stays_none():
    assert steps.isolation(Isolation(level="none"), cgroups.Groups(()), ()).level == "none"
