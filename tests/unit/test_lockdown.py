"""The book of steps: what was done, what could not be, and what may be missing."""

from __future__ import annotations

import pytest

from sandbox_runtime import wire
from sandbox_runtime.lockdown import REDUCED, STEPS, Lockdown


def fails() -> None:
    raise OSError("this kernel cannot")


def does() -> None:
    pass


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_is_done_is_told(name: str):
    lockdown = Lockdown()
    lockdown.step(name, does)
    assert (lockdown.applied, lockdown.missing) == ([name], [])


@pytest.mark.parametrize("name", sorted(set(STEPS) - REDUCED))
def test_a_step_that_fails_is_the_end_of_the_sandbox(name: str):
    lockdown = Lockdown()
    with pytest.raises(OSError, match="this kernel cannot"):
        lockdown.step(name, fails)
    assert lockdown.applied == []


@pytest.mark.parametrize("name", sorted(REDUCED))
def test_a_step_that_a_sandbox_may_do_without_is_told_as_missing(name: str):
    lockdown = Lockdown()
    lockdown.step(name, fails)
    assert (lockdown.applied, lockdown.missing) == ([], [name])


@pytest.mark.parametrize("name", STEPS)
def test_a_bug_in_a_step_is_no_missing_feature(name: str):
    with pytest.raises(ZeroDivisionError):
        Lockdown().step(name, lambda: 1 // 0)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_a_test_leaves_out_is_neither_done_nor_told(name: str):
    lockdown = Lockdown(frozenset([name]))
    lockdown.step(name, fails)
    lockdown.did(name)
    assert not lockdown.wants(name)
    assert (lockdown.applied, lockdown.missing) == ([], [])


def test_a_step_done_in_parts_is_told_once():
    lockdown = Lockdown()
    lockdown.did("own_uid", "pid_namespace")
    lockdown.did("own_uid")
    lockdown.step("own_uid", does)
    assert lockdown.applied == ["own_uid", "pid_namespace"]


def test_a_step_that_nobody_knows_is_a_bug():
    with pytest.raises(KeyError):
        Lockdown().step("typo", does)


def test_what_may_be_missing_are_steps():
    assert STEPS.keys() >= REDUCED


def test_all_steps_fit_into_a_hello():
    assert wire.Hello.checks["lockdown"](list(STEPS))
    assert all(STEPS.values())
