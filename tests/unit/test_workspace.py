"""What comes out of a workspace, and what does not."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox_runtime import wire, workspace
from sandbox_runtime.workspace import Caps, Collection, Inputs, Tree
from tests.unit.test_inputs import root, staged

__all__ = ["root"]  # a fixture

CHUNK = wire.MAX_CHUNK_BYTES
GENEROUS = Caps(files=1000, file_bytes=10 * 2**20, total_bytes=20 * 2**20)


class Collected:
    """What a collection brought in, and what it left out."""

    def __init__(self, root: Path, inputs: Inputs, caps: Caps = GENEROUS, deadline: float = math.inf) -> None:
        found = Collection(inputs, caps, deadline, Tree(str(root)))
        self.pieces = list(found.pieces())
        self.files: dict[str, bytes] = {}
        for each in self.pieces:
            self.files[each.path] = self.files.get(each.path, b"") + each.data
        self.skipped = {path: reason for path, reason in found.skipped}  # noqa: C416  # pairs, but lists
        self.skipped_count = found.skipped_count


# --- nothing to collect ---


def test_a_workspace_is_untouched_while_nothing_but_the_program_is_there(root: Path):
    inputs = staged(root)
    assert workspace.is_untouched(inputs, str(root))
    (root / "made").touch()
    assert not workspace.is_untouched(inputs, str(root))


def test_a_workspace_without_its_program_is_untouched(root: Path):
    inputs = staged(root)
    (root / "__main__.py").unlink()
    assert workspace.is_untouched(inputs, str(root))


def test_a_workspace_with_inputs_is_looked_into(root: Path):
    # Any of them may have been changed, which shows in its content only.
    assert not workspace.is_untouched(staged(root, one=b"1"), str(root))


def test_a_folder_in_the_programs_place_is_looked_into(root: Path):
    inputs = staged(root)
    (root / "__main__.py").unlink()
    (root / "__main__.py").mkdir()
    (root / "__main__.py/made").write_bytes(b"x")
    assert not workspace.is_untouched(inputs, str(root))
    assert Collected(root, inputs).files == {"__main__.py/made": b"x"}


def test_a_workspace_that_is_not_there_is_looked_into(root: Path):
    assert not workspace.is_untouched(staged(root), str(root / "gone"))


# --- what comes back ---


def test_new_files_come_back_in_order_each_in_its_pieces(root: Path):
    inputs = staged(root)
    (root / "b").write_bytes(b"x" * (CHUNK + 1))
    (root / "a").write_bytes(b"")
    (root / "folder").mkdir()
    (root / "folder/c").write_bytes(b"x" * CHUNK)
    pieces = [(each.path, len(each.data), each.last) for each in Collected(root, inputs).pieces]
    assert pieces == [("a", 0, True), ("b", CHUNK, False), ("b", 1, True), ("folder/c", CHUNK, True)]


def test_the_program_itself_does_not_come_back(root: Path):
    inputs = staged(root)
    (root / "__main__.py").write_bytes(b"changed")
    assert Collected(root, inputs).files == {}


def test_an_input_comes_back_only_if_its_content_has_changed(root: Path):
    inputs = staged(root, same=b"12345", rewritten=b"12345", longer=b"12345", other=b"12345", gone=b"12345")
    (root / "rewritten").write_bytes(b"12345")
    os.utime(root / "rewritten", (0, 0))
    (root / "longer").write_bytes(b"123456")
    (root / "other").write_bytes(b"12354")
    (root / "gone").unlink()
    assert Collected(root, inputs).files == {"longer": b"123456", "other": b"12354"}


def test_a_changed_input_of_the_same_size_is_found_although_its_times_lie(root: Path):
    inputs = staged(root, one=b"12345")
    before = (root / "one").stat()
    (root / "one").write_bytes(b"54321")
    os.utime(root / "one", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Collected(root, inputs).files == {"one": b"54321"}


def test_a_file_under_another_name_is_a_new_file(root: Path):
    inputs = staged(root, one=b"1")
    (root / "one").rename(root / "two")
    assert Collected(root, inputs).files == {"two": b"1"}


def test_nothing_is_left_open(root: Path):
    inputs = staged(root, one=b"1")
    (root / "two").write_bytes(b"2")
    before = len(os.listdir("/proc/self/fd"))
    Collected(root, inputs)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_collection_that_is_given_up_leaves_nothing_open(root: Path):
    (root / "big").write_bytes(b"x" * (3 * CHUNK))
    before = len(os.listdir("/proc/self/fd"))
    pieces = Collection(staged(root), GENEROUS, math.inf, Tree(str(root))).pieces()
    next(pieces)
    del pieces
    assert len(os.listdir("/proc/self/fd")) == before


# --- what does not ---


def test_an_inode_comes_back_once(root: Path):
    inputs = staged(root)
    (root / "a").write_bytes(b"data")
    for name in ("b", "c"):
        os.link(root / "a", root / name)
    collected = Collected(root, inputs)
    assert collected.files == {"a": b"data"}
    assert collected.skipped == {"b": "hard_link", "c": "hard_link"}


def test_a_new_name_of_an_unchanged_input_comes_back(root: Path):
    # The input itself does not, so nothing would be sent twice.
    inputs = staged(root, a=b"data")
    os.link(root / "a", root / "b")
    assert Collected(root, inputs).files == {"b": b"data"}


def test_links_pipes_and_sockets_are_left_out_and_not_touched(root: Path, tmp_path: Path):
    inputs = staged(root, data=b"1")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "data").unlink()
    (root / "data").symlink_to(tmp_path / "secret")
    (root / "dangling").symlink_to("nowhere")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    collected = Collected(root, inputs)
    assert collected.files == {}
    assert collected.skipped == dict.fromkeys(["dangling", "data", "fifo", "folder", "socket"], "not_regular")


def test_names_that_are_no_text_are_left_out(root: Path):
    inputs = staged(root)
    for name in (b"\xff", b"caf\xe9", b"\xed\xa0\x80"):
        os.close(os.open(os.path.join(os.fsencode(root), name), os.O_CREAT))
    collected = Collected(root, inputs)
    assert (collected.files, collected.skipped_count) == ({}, 3)
    assert set(collected.skipped.values()) == {"name_not_utf8"}
    assert all(wire.skipped([path, reason]) for path, reason in collected.skipped.items())


def test_a_folder_that_is_no_text_is_looked_into_and_its_files_left_out(root: Path):
    inputs = staged(root)
    folder = os.path.join(os.fsencode(root), b"caf\xe9")
    os.mkdir(folder)
    os.close(os.open(os.path.join(folder, b"file"), os.O_CREAT))
    assert Collected(root, inputs).skipped == {"caf\ufffd/file": "name_not_utf8"}


def test_folders_too_deep_are_named_and_not_entered(root: Path):
    inputs = staged(root)
    deepest = root.joinpath(*["d"] * workspace.MAX_DEPTH)
    deepest.mkdir(parents=True)
    (deepest / "file").write_bytes(b"deep")
    (deepest / "below").mkdir()
    (deepest / "below/file").write_bytes(b"deeper")
    collected = Collected(root, inputs)
    assert list(collected.files.values()) == [b"deep"]
    assert collected.skipped == {"d/" * workspace.MAX_DEPTH + "below": "too_deep"}


def test_a_path_that_is_too_long_for_a_frame_is_left_out(root: Path):
    inputs = staged(root)
    here = os.open(root, os.O_PATH)
    for _ in range(17):
        os.mkdir("d" * 250, dir_fd=here)
        here, above = os.open("d" * 250, os.O_PATH, dir_fd=here), here
        os.close(above)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    collected = Collected(root, inputs)
    assert collected.files == {}
    assert set(collected.skipped.values()) <= {"too_deep", "unreadable"}
    assert collected.skipped_count == 1


def test_a_workspace_that_is_gone_is_reported(root: Path):
    assert Collected(root / "gone", Inputs(str(root))).skipped == {".": "unreadable"}


# --- caps and the clock ---


def sizes(root: Path, **sizes_bytes: int) -> Inputs:
    inputs = staged(root)
    for name, size_bytes in sizes_bytes.items():
        (root / name).write_bytes(b"x" * size_bytes)
    return inputs


def test_a_file_at_the_cap_comes_back_and_one_above_it_does_not(root: Path):
    inputs = sizes(root, a=10, b=11)
    collected = Collected(root, inputs, Caps(files=9, file_bytes=10, total_bytes=100))
    assert (list(collected.files), collected.skipped) == (["a"], {"b": "too_large"})


def test_files_come_back_up_to_their_number(root: Path):
    inputs = sizes(root, a=1, b=1, c=1)
    collected = Collected(root, inputs, Caps(files=2, file_bytes=10, total_bytes=100))
    assert (list(collected.files), collected.skipped) == (["a", "b"], {"c": "too_many"})


def test_files_come_back_as_long_as_they_fit_into_the_total(root: Path):
    inputs = sizes(root, a=6, b=5, c=4)
    collected = Collected(root, inputs, Caps(files=9, file_bytes=10, total_bytes=10))
    assert (list(collected.files), collected.skipped) == (["a", "c"], {"b": "total_too_large"})


def test_a_sparse_file_counts_with_the_size_that_it_claims(root: Path):
    inputs = staged(root)
    with open(root / "sparse", "wb") as file:
        file.truncate(2**40)
    assert Collected(root, inputs).skipped == {"sparse": "too_large"}


def test_what_is_not_collected_by_the_deadline_is_named(root: Path):
    inputs = sizes(root, a=1, b=1)
    collected = Collected(root, inputs, deadline=time.monotonic() - 1)
    assert (collected.files, collected.skipped) == ({}, {"a": "too_late", "b": "too_late"})


def test_a_file_that_was_begun_in_time_comes_back_whole(root: Path):
    inputs = sizes(root, a=3 * CHUNK, b=1)
    found = Collection(inputs, GENEROUS, time.monotonic() + 60, Tree(str(root)))
    pieces = found.pieces()
    first = next(pieces)
    found._deadline = 0.0
    assert sum(len(each.data) for each in [first, *pieces]) == 3 * CHUNK
    assert found.skipped == [["b", "too_late"]]


def test_twenty_are_named_and_all_are_counted(root: Path):
    inputs = staged(root)
    for number in range(30):
        (root / f"link-{number:02}").symlink_to("nowhere")
    collected = Collected(root, inputs)
    assert (len(collected.skipped), collected.skipped_count) == (20, 30)


def test_the_longest_names_that_are_left_out_fit_into_one_frame(root: Path):
    inputs = staged(root)
    for number in range(20):
        (root / (chr(0x1F600 + number) * 63)).symlink_to("nowhere")
    found = Collected(root, inputs)
    outcome = wire.Outcome(
        exit_code=0,
        reason="exited",
        signal=None,
        duration_ms=1,
        collect_ms=1,
        limits_hit=[],
        stdout_truncated=False,
        stderr_truncated=False,
        files_skipped=[[path, reason] for path, reason in found.skipped.items()],
        files_skipped_count=found.skipped_count,
    )
    assert len(wire.Writer().line(outcome)) < wire.MAX_LINE_BYTES


# --- limits met ---


def test_a_mount_with_room_adds_nothing(root: Path):
    assert workspace.limits_met(["open_files"], [str(root)]) == ["open_files"]


def test_a_file_is_told_once_though_the_kernel_lists_what_is_renamed_twice(root: Path, monkeypatch: pytest.MonkeyPatch):
    inputs, scan = staged(root), os.scandir
    made = root / "folder/made"
    made.parent.mkdir()
    made.write_bytes(b"x")

    @contextmanager
    def twice(folder: int) -> Iterator[list[os.DirEntry[str]]]:
        with scan(folder) as entries:
            yield list(entries) * 2

    monkeypatch.setattr(os, "scandir", twice)
    told = []
    for piece in Collection(inputs, GENEROUS, math.inf, Tree(str(root))).pieces():
        told.append(piece.path)
        (root / "another").write_bytes(b"y")
        (root / "another").rename(made)
    assert told == ["folder/made"]
