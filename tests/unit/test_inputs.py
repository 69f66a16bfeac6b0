"""What goes into a workspace: inputs in pieces, each in its place and once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_runtime import wire, workspace
from sandbox_runtime.workspace import Inputs


def piece(target: str, data: bytes, *, path: str = "", last: bool = True) -> wire.Stage:
    return wire.Stage(target=target, path=path, data=data, last=last)


def staged(root: Path, **files: bytes) -> Inputs:
    inputs = Inputs(str(root))
    inputs.add(piece("code", b"print(1)"))
    for path, data in files.items():
        inputs.add(piece("file", data, path=path))
    return inputs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "workspace"
    place.mkdir()
    return place


def test_inputs_are_written_where_they_belong(root: Path):
    inputs = staged(root)
    inputs.add(piece("file", b"data", path="folder/below/file"))
    inputs.add(piece("stdin", b"in"))
    assert (root / "__main__.py").read_bytes() == b"print(1)"
    assert (root / "folder/below/file").read_bytes() == b"data"
    assert bytes(inputs.stdin) == b"in"
    assert inputs.are_complete()


@settings(deadline=None)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_pieces_of_any_size_make_the_same_file(tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]):
    root = tmp_path_factory.mktemp("workspace")
    inputs = Inputs(str(root))
    ends = [*sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        inputs.add(piece("code", data[start:end], last=False))
    inputs.add(piece("code", b""))
    assert (root / "__main__.py").read_bytes() == data


def test_an_input_that_has_not_ended_makes_them_incomplete(root: Path):
    inputs = Inputs(str(root))
    assert not inputs.are_complete()
    inputs.add(piece("code", b"1"))
    assert inputs.are_complete()
    inputs.add(piece("file", b"half", path="file", last=False))
    assert not inputs.are_complete()
    inputs.add(piece("file", b"", path="file"))
    assert inputs.are_complete()


def test_inputs_without_a_program_are_incomplete(root: Path):
    inputs = Inputs(str(root))
    inputs.add(piece("file", b"", path="file"))
    assert not inputs.are_complete()


@pytest.mark.parametrize(
    "late",
    [
        piece("file", b"2", path="two"),
        piece("code", b"2"),
        piece("stdin", b"2"),
        piece("file", b"2"),
    ],
    ids=repr,
)
def test_a_piece_of_another_input_within_one_is_out_of_place(root: Path, late: wire.Stage):
    inputs = Inputs(str(root))
    inputs.add(piece("file", b"1", path="one", last=False))
    with pytest.raises(wire.WireError):
        inputs.add(late)


@pytest.mark.parametrize(
    "again", [piece("code", b"2"), piece("stdin", b"2"), piece("file", b"2", path="one")], ids=repr
)
def test_no_input_comes_twice(root: Path, again: wire.Stage):
    inputs = staged(root, one=b"1")
    inputs.add(piece("stdin", b"1"))
    with pytest.raises(wire.WireError):
        inputs.add(again)
    assert (root / "one").read_bytes() == b"1"


def test_no_input_takes_the_programs_place(root: Path):
    with pytest.raises(wire.WireError):
        staged(root).add(piece("file", b"2", path="__main__.py"))
    assert (root / "__main__.py").read_bytes() == b"print(1)"


def test_a_full_workspace_is_told_by_its_resource(root: Path):
    assert workspace.full_resource(OSError(errno.ENOSPC, ""), str(root)) == "disk"
    assert workspace.full_resource(OSError(errno.EFBIG, ""), str(root)) == "file_size"
    assert workspace.full_resource(OSError(errno.EDQUOT, ""), str(root)) == "disk"
    assert workspace.full_resource(OSError(errno.EACCES, ""), str(root)) is None
