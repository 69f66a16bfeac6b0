"""Which times are brought back after a program, and to what. That none tells of it: integration/test_residue.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox_runtime import stamps


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree in place of /dev and /proc."""
    for folder in ("1/task/1", "1/fd", "kept"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("null", "1/fd/3", "kept/file"):
        (tmp_path / file).touch()
    (tmp_path / "link").symlink_to("null")
    monkeypatch.setattr(stamps, "_TOPS", (str(tmp_path),))
    return tmp_path


def test_all_that_can_be_set_is_found_but_what_others_look_after(top: Path):
    found = stamps.settable([f"{top}/kept"])

    assert {os.path.relpath(path, top) for path in found} == {"null", "link", "1", "1/task", "1/task/1", "1/fd"}


def test_what_a_program_has_set_becomes_the_time_of_now(top: Path):
    found = stamps.settable([])
    before = os.stat(top / "null").st_mtime_ns
    for name in ("null", "link", "1/task"):
        os.utime(top / name, (5, 6), follow_symlinks=False)

    stamps.stamp(found)

    times = [os.lstat(top / name) for name in ("null", "link", "1/task")]
    assert min(time for each in times for time in (each.st_atime_ns, each.st_mtime_ns)) >= before


def test_what_has_gone_since_is_passed_over(top: Path):
    found = stamps.settable([])
    (top / "null").unlink()
    os.utime(top / "1/task", (5, 6))

    stamps.stamp(found)

    assert os.stat(top / "1/task").st_mtime > 6


@pytest.mark.parametrize(("name", "whose"), [("1", False), (str(os.getpid()), False), ("77", True), ("sys", False)])
def test_folders_of_guests_go_with_them(name: str, whose: bool):
    assert stamps._is_of_a_guest("/proc", name) is whose
    assert not stamps._is_of_a_guest("/proc/1/task", name)
