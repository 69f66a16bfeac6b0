"""The protocol as bytes on disk: read by both ends, and written by each Python, exactly so.

A golden file that has to be changed is a change of the protocol: raise `wire.PROTOCOL` with it, or
sandboxes and brokers of two releases no longer understand each other.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from sandbox_runtime import wire
from tests import source_tree as tree
from tests.contract.golden_frames import KINDS, rewritten
from tests.contract.pythons import pythons

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*/*.jsonl"))
NEW_IN_VERSION_3 = {"opened", "prove", "session", "shell"}


def frames(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_every_message_has_its_golden_frames():
    kinds = {int(folder.name): {path.stem for path in folder.iterdir()} for folder in GOLDEN.iterdir()}
    assert kinds == {2: set(KINDS) - NEW_IN_VERSION_3, wire.PROTOCOL: set(KINDS)}
    assert set(kinds) == set(wire.SPOKEN)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.stem} {path.parent.name}")
def test_both_ends_understand_them_alike(path):
    data = path.read_bytes()
    direction = next(each for each in (wire.FROM_BROKER, wire.FROM_SANDBOX) if KINDS[path.stem] in each)
    brokers = wire.Reader(direction, loads=msgspec.json.decode).feed(data)
    sandboxes = wire.Reader(direction).feed(data)
    assert brokers == sandboxes
    assert [(run, message.kind) for run, message in brokers] == [(each["run"], path.stem) for each in frames(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.stem} {path.parent.name}")
def test_the_writer_writes_them_identically(path):
    assert rewritten(path) == path.read_bytes()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.stem} {path.parent.name}")
def test_they_show_every_field_more_than_one_way(path):
    """A field that has the same value in every golden frame pins nothing down."""
    bodies = [each["body"] for each in frames(path)]
    for name in KINDS[path.stem].checks:
        assert len({json.dumps(body[name]) for body in bodies}) > 1, name


@pytest.mark.parametrize("version", wire.SPOKEN)
@pytest.mark.parametrize("python", pythons().values(), ids=pythons())
def test_every_python_reads_and_writes_them_identically(python, version):
    script, folder = tree.ROOT / "tests/contract/golden_frames.py", GOLDEN / str(version)
    environment = {"PYTHONPATH": str(tree.HOMES["sandbox_runtime"]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-S", script, GOLDEN / str(version)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    count = len(list(folder.iterdir()))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{count} files; differing: []\n", "")
