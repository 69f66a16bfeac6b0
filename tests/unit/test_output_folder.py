"""Files of a sandbox stay in their folder, whatever they are called and whatever stands in the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from code_interpreter_client.output_folder import NotWritten, OutputFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_pieces_become_files_in_folders(root: Path) -> None:
    folder = OutputFolder(root)
    folder.write("a/b/c.txt", b"1", last=False)
    folder.write("a/b/c.txt", b"2", last=True)
    folder.write("a/d", b"", last=True)
    assert (root / "a/b/c.txt").read_bytes() == b"12"
    assert sorted(path.name for path in root.rglob("*")) == ["a", "b", "c.txt", "d"]


def test_an_existing_file_is_replaced_and_not_written_into(root: Path) -> None:
    root.mkdir()
    (root / "f").write_text("old")
    os.link(root / "f", root / "same")
    OutputFolder(root, overwrite=True).write("f", b"new", last=True)
    assert ((root / "f").read_text(), (root / "same").read_text()) == ("new", "old")


def test_an_existing_file_stays_unless_it_may_be_replaced(root: Path) -> None:
    root.mkdir()
    (root / "f").write_text("old")
    with pytest.raises(NotWritten, match="--overwrite"):
        OutputFolder(root).write("f", b"new", last=True)
    assert [(path.name, path.read_text()) for path in root.iterdir()] == [("f", "old")]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "", "a//b", ".", "a/.", "a\0b"])
def test_a_path_that_leads_elsewhere_is_not_written(root: Path, path: str) -> None:
    with pytest.raises(NotWritten):
        OutputFolder(root).write(path, b"x", last=True)
    assert list(root.iterdir()) == []
    assert [each.name for each in root.parent.iterdir()] == ["out"]


def test_links_are_neither_followed_nor_written_through(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "kept")
    (root / "dangling").symlink_to(outside / "new")
    for name in ("file", "dangling"):
        with pytest.raises(NotWritten):
            OutputFolder(root).write(name, b"theirs", last=True)
    folder = OutputFolder(root, overwrite=True)
    with pytest.raises(NotWritten):
        folder.write("folder/x", b"theirs", last=True)
    folder.write("file", b"theirs", last=True)
    folder.write("dangling", b"theirs", last=True)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("kept", "mine")]
    assert [(root / name).is_symlink() for name in ("file", "dangling")] == [False, False]


def test_a_file_where_a_folder_should_be_and_the_reverse_are_refused(root: Path) -> None:
    folder = OutputFolder(root)
    folder.write("a", b"x", last=True)
    (root / "d").mkdir()
    for path in ("a/b", "d"):
        with pytest.raises(NotWritten):
            folder.write(path, b"y", last=True)
    folder.write("after", b"z", last=True)
    assert sorted(path.name for path in root.iterdir()) == ["a", "after", "d"]


def test_a_full_disk_costs_the_file_and_not_the_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, full = OutputFolder(root), OSError(errno.ENOSPC, "No space left on device")
    folder.write("big", b"x", last=False)
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", Mock(side_effect=full))
        with pytest.raises(NotWritten, match="'big' cannot be written: No space left"):
            folder.write("big", b"y", last=False)
    folder.write("small", b"z", last=True)
    assert [path.name for path in root.iterdir()] == ["small"]


def test_a_file_that_gets_no_name_leaves_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, failed = OutputFolder(root), OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(os, "rename", Mock(side_effect=failed))
    with pytest.raises(NotWritten, match="'f' cannot be written: Input/output error"):
        folder.write("f", b"x", last=True)
    assert list(root.iterdir()) == []


def test_of_a_file_that_was_not_complete_nothing_stays(root: Path) -> None:
    with OutputFolder(root) as folder:
        folder.write("half", b"x", last=False)
    assert list(root.iterdir()) == []


def test_no_descriptor_is_left_open(root: Path) -> None:
    folder = OutputFolder(root)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        folder.write(f"{number}/x/y", b"z", last=True)
        with pytest.raises(NotWritten):
            folder.write(f"{number}/x/y/z", b"z", last=True)
    assert len(os.listdir("/proc/self/fd")) == before
