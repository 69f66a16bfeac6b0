"""A workspace that is shared with guests who live: what is put in, what is found, and what bounds both."""

from __future__ import annotations

import errno
import math
import os
import time
from pathlib import Path

import pytest

from sandbox_runtime import beneath, calls, kernel, wire, workspace
from sandbox_runtime.beneath import SharedTree, StagedInputs
from sandbox_runtime.workspace import Caps, Collection
from tests.unit.test_inputs import piece, root

__all__ = ["root"]  # a fixture

CAPS = Caps(files=1000, file_bytes=10 * 2**20, total_bytes=20 * 2**20)


@pytest.fixture
def tree(root: Path) -> SharedTree:
    return SharedTree(str(root))


def staged(tree: SharedTree, **files: bytes) -> StagedInputs:
    inputs = StagedInputs(tree)
    inputs.add(piece("code", b"print(1)"))
    for path, data in files.items():
        inputs.add(piece("file", data, path=path))
    return inputs


def collection(tree: SharedTree, *, since_ns: int = 0, deadline: float = math.inf) -> Collection:
    return Collection(workspace.Inputs(), CAPS, deadline, tree, since_ns=since_ns)


def collected(found: Collection) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for each in found.pieces():
        files[each.path] = files.get(each.path, b"") + each.data
    return files


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- in ---


def test_inputs_have_no_name_until_they_settle(root: Path, tree: SharedTree):
    inputs = staged(tree, data=b"x")
    inputs.add(piece("file", b"y", path="a/b/c"))
    assert (os.listdir(root), inputs.are_complete()) == ([], True)
    inputs.settle()
    assert [(root / path).read_bytes() for path in ("__main__.py", "data", "a/b/c")] == [b"print(1)", b"x", b"y"]


def test_inputs_that_are_dropped_leave_nothing(root: Path, tree: SharedTree):
    before = open_files()
    inputs = staged(tree, data=b"x")
    inputs.add(piece("file", b"half", path="half", last=False))
    inputs.drop()
    assert (os.listdir(root), open_files()) == ([], before)


def test_nothing_is_left_open_where_one_has_no_place(root: Path, tree: SharedTree):
    before = open_files()
    (root / "taken").mkdir()
    inputs = staged(tree, taken=b"x", other=b"x")
    with pytest.raises(OSError, match="taken") as refused:
        inputs.settle()
    assert calls.refusal(refused.value, "taken") == wire.Refused(path="taken", resource="place")
    assert open_files() == before


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "fifo", "hard link"])
def test_what_is_in_the_way_makes_way_and_is_not_written_to(root: Path, tree: SharedTree, tmp_path: Path, kind: str):
    (tmp_path / "other").write_bytes(b"other")
    make = {
        "file": lambda: (root / "data").write_bytes(b"long before"),
        "link": lambda: (root / "data").symlink_to(tmp_path / "other"),
        "dangling": lambda: (root / "data").symlink_to(tmp_path / "none"),
        "fifo": lambda: os.mkfifo(root / "data"),
        "hard link": lambda: os.link(tmp_path / "other", root / "data"),
    }
    make[kind]()
    staged(tree, data=b"x").settle()
    assert ((root / "data").read_bytes(), (root / "data").is_symlink()) == (b"x", False)
    assert ((tmp_path / "other").read_bytes(), (tmp_path / "none").exists()) == (b"other", False)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_without_the_call_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    before = open_files()
    monkeypatch.setattr(kernel, "system_call", refuse)
    with pytest.raises(beneath.Unsupported) as refused:
        SharedTree(str(root))
    assert calls.refusal(refused.value, "data") == wire.Refused(path="data", resource="kernel")
    assert open_files() == before


# --- out ---


def test_what_was_there_before_does_not_come_back(root: Path, tree: SharedTree):
    for name in ("same", "changed", "renamed"):
        (root / name).write_bytes(b"1")
    (root / "link").symlink_to("same")
    since_ns = _later(root)
    (root / "changed").write_bytes(b"2")
    (root / "renamed").rename(root / "other")
    (root / "new").write_bytes(b"3")
    found = collection(tree, since_ns=since_ns)
    assert collected(found) == {"changed": b"2", "other": b"1", "new": b"3"}
    assert found.skipped == []


def _later(root: Path) -> int:
    """A moment on the clock of the root's files that is after all before it."""
    newest = max(path.lstat().st_ctime_ns for path in root.iterdir())
    probe = root / "probe"
    while True:
        probe.touch()
        now = probe.stat().st_ctime_ns
        probe.unlink()
        if now > newest:
            return now


def test_a_file_that_grows_comes_back_as_long_as_it_was(root: Path, tree: SharedTree):
    (root / "log").write_bytes(b"x" * 100_000)
    pieces = collection(tree).pieces()
    first = next(pieces)
    with open(root / "log", "ab") as log:
        log.write(b"y" * 100_000)
    assert b"".join(each.data for each in [first, *pieces]) == b"x" * 100_000


def test_a_file_that_shrinks_comes_back_as_short_as_it_is(root: Path, tree: SharedTree):
    (root / "log").write_bytes(b"x" * 200_000)
    pieces = collection(tree).pieces()
    first = next(pieces)
    os.truncate(root / "log", 10)
    rest = list(pieces)
    assert rest[-1].last
    assert sum(len(each.data) for each in [first, *rest]) < 200_000


@pytest.mark.parametrize("swap", ["fifo", "link", "folder", "hard link"])
def test_what_was_swapped_since_we_looked_is_looked_at_again(root: Path, tree: SharedTree, tmp_path: Path, swap: str):
    (tmp_path / "secret").write_bytes(b"secret")
    for name in ("a", "b"):
        (root / name).write_bytes(b"x" * 100_000)
    found = collection(tree)
    steps = found.steps()
    next(steps)
    next(steps)  # the root has been looked at, and `a` is being told
    (root / "b").unlink()
    make = {
        "fifo": lambda: os.mkfifo(root / "b"),
        "link": lambda: (root / "b").symlink_to(tmp_path / "secret"),
        "folder": lambda: (root / "b").mkdir(),
        "hard link": lambda: os.link(root / "a", root / "b"),
    }
    make[swap]()
    assert {each.path for each in steps if each is not None} == {"a"}
    expected = {"fifo": "not_regular", "link": "unreadable", "folder": "not_regular", "hard link": "hard_link"}
    assert found.skipped == [["b", expected[swap]]]


def test_no_more_is_looked_at_when_the_time_is_over(root: Path, tree: SharedTree):
    for number in range(100):
        (root / f"folder-{number}").mkdir()
    found = collection(tree, deadline=time.monotonic() - 1)
    assert (collected(found), found.skipped) == ({}, [[".", "too_late"]])


def test_each_look_is_a_step(root: Path, tree: SharedTree):
    for number in range(10):
        (root / f"old-{number}").touch()
        (root / f"folder-{number}").mkdir()
    assert list(collection(tree, since_ns=2**62).steps()) == [None] * 21
