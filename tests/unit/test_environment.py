"""What a virtual environment for programs may show them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pool import RunLimits
from pool.local import local_backend
from pool.local.environment import EnvironmentUnusable, find


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "programs"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


def test_a_folder_of_its_own_is_shown(environment: Path) -> None:
    assert str(environment) in find(str(environment)).trees


def test_one_that_is_a_home_is_refused(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(environment))
    with pytest.raises(EnvironmentUnusable, match="every program could read it"):
        find(str(environment))


def test_one_that_holds_a_home_is_refused(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(environment / "somebody"))
    with pytest.raises(EnvironmentUnusable, match="every program could read it"):
        find(str(environment))


@pytest.mark.parametrize("name", [".ssh", ".git"])
def test_one_with_somebodys_things_in_it_is_refused(environment: Path, name: str) -> None:
    (environment / name).mkdir()
    with pytest.raises(EnvironmentUnusable, match=name):
        find(str(environment))


def test_a_link_to_a_home_is_refused(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = environment.parent / "link"
    link.symlink_to(environment)
    monkeypatch.setenv("HOME", str(link))
    with pytest.raises(EnvironmentUnusable, match="every program could read it"):
        find(str(environment))


def test_one_in_a_home_is_fine(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.path.dirname(environment))
    assert find(str(environment)).version == sys.version_info[:3]


def test_one_in_a_place_that_is_wiped_is_refused_where_sandboxes_are_used_again(environment: Path) -> None:
    found = msgspec.structs.replace(find(str(environment)), trees=("/tmp/programs",))
    with pytest.raises(EnvironmentUnusable, match="/tmp/programs"):
        local_backend(environment=found, preload=(), limits=RunLimits(), reuses=True)
