"""No setting and no environment variable leaves a step of the lock-down out where the machine can do it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from broker import backends, settings
from broker.setting_values import SettingsError
from pool.local import LocalBackend, Protection, probe, protections
from pool.local import opening as local_opening
from sandbox_runtime import lockdown
from tests import source_tree as tree
from tests.hostile.aftermath import opened
from tests.hostile.attack import answer_of
from tests.sandboxes import PROGRAMS

MAY_FILL_LEFT_OUT = {
    "pool/local/backend.py": "plan.left_out",
    "pool/local/opening.py": "impossible_steps(protections)",
}
"""Where a plan is made, and from what. `impossible_steps` names what this machine cannot do; see its tests below."""


def fillers() -> Iterator[tuple[str, str]]:
    """Each call that hands on steps to leave out: the file, and the expression."""
    for path in tree.python_files("broker", "pool", "sandbox-runtime"):
        for node in ast.walk(tree.parsed(path)):
            if isinstance(node, ast.keyword) and node.arg == "left_out":
                yield tree.shown(path), ast.unparse(node.value)


def test_two_places_hand_on_steps_to_leave_out():
    assert dict(fillers()) == MAY_FILL_LEFT_OUT
    assert len(list(fillers())) == len(MAY_FILL_LEFT_OUT)


def test_the_broker_does_not_know_the_word():
    assert [tree.shown(path) for path in tree.python_files("broker") if "left_out" in path.read_text()] == []


def test_no_setting_is_about_a_step():
    words = set(settings.FIELDS) | {name.lower() for name in settings.VARIABLES}
    steps = {step for step in lockdown.STEPS for word in words if step in word}
    assert steps == set()


@pytest.mark.parametrize("name", ["BROKER_LEFT_OUT", "BROKER_SECCOMP", "BROKER_LANDLOCK", "BROKER_LOCKDOWN"])
def test_a_variable_that_sounds_like_it_stops_the_start(name: str):
    with pytest.raises(SettingsError):
        settings.from_environment({name: "seccomp"})


def whole() -> list[Protection]:
    """Of a machine that has everything."""
    found = probe()
    return [Protection(name=each.name, present=True, needed=each.needed, meaning="", remedy="") for each in found]


def backend_of(environ: dict[str, str]) -> LocalBackend:
    backend = backends.create_backend(settings.from_environment({"BROKER_PROGRAMS": PROGRAMS, **environ}), preload=())
    assert isinstance(backend, LocalBackend)
    return backend


@pytest.mark.parametrize("accepted", ["true", "false"])
def test_where_nothing_is_missing_the_switch_changes_nothing(monkeypatch: pytest.MonkeyPatch, accepted: str):
    monkeypatch.setattr("pool.local.opening.probe.probe", whole)
    assert backend_of({"BROKER_ALLOW_NO_ISOLATION": accepted})._plan.left_out == ()


@pytest.mark.parametrize("name", sorted({*protections.NEEDED, *local_opening.DISPENSABLE, "kernel"}))
def test_what_is_missing_is_refused_unless_an_operator_accepts_that(monkeypatch: pytest.MonkeyPatch, name: str):
    lacking = [
        Protection(name=each.name, present=each.name != name, needed=each.needed, meaning="", remedy="")
        for each in whole()
    ]
    monkeypatch.setattr("pool.local.opening.probe.probe", lambda: lacking)
    with pytest.raises(SettingsError, match=name):
        backend_of({})
    step = local_opening.DISPENSABLE.get(name)
    if step is None:
        with pytest.raises(SettingsError):
            backend_of({"BROKER_ALLOW_NO_ISOLATION": "true"})
    else:
        backend = backend_of({"BROKER_ALLOW_NO_ISOLATION": "true"})
        assert (backend._plan.left_out, backend.isolation().level) == ((step,), "none")


def test_without_a_network_of_its_own_no_sandbox_is_used_again(monkeypatch: pytest.MonkeyPatch):
    lacking = [msgspec.structs.replace(each, present=each.name != "network namespace") for each in whole()]
    monkeypatch.setattr("pool.local.opening.probe.probe", lambda: lacking)
    again = {"BROKER_MAX_RUNS_PER_SANDBOX": "20", "BROKER_REUSE_SCOPE": "any"}
    with pytest.raises(SettingsError, match="BROKER_MAX_RUNS_PER_SANDBOX=1"):
        backend_of({"BROKER_ALLOW_NO_ISOLATION": "true", **again})


def test_the_environment_of_the_service_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    # Python's own variables too: those of the launcher's processes would be read before any line of ours.
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('planted')")
    (tmp_path / "sandbox_runtime.py").write_text("raise SystemExit('planted')")
    for name in ("LEFT_OUT", "LOCKDOWN", "SECCOMP", "LD_PRELOAD_PLANTED", *lockdown.STEPS):
        monkeypatch.setenv(name.upper(), "0")
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONUSERBASE"):
        monkeypatch.setenv(name, str(tmp_path))
    with opened() as estate:
        names = set(answer_of(estate.boxes, "answer(sorted(os.environ))"))
        expected = set(estate.boxes.pool.backend.isolation().lockdown)
    assert not names & {"PYTHONPATH", "LEFT_OUT", "SECCOMP"}
    assert expected == set(lockdown.STEPS) - missing_here()


def missing_here() -> set[str]:
    """Steps that this machine cannot do, and so reports (the skips that CI may show)."""
    absent = {each.name for each in probe() if not each.present}
    groups = {"memory cgroup", "pids cgroup", "cpu cgroup"} <= absent or os.geteuid() != 0
    return ({"control_group"} if groups else set()) | ({"landlock"} if "Landlock" in absent else set())
