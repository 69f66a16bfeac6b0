"""Words, sizes and syntax of the source, and the form of the lock files (ARCHITECTURE.md, requirements/README.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import source_tree as tree

SOURCES = ("broker", "client", "pool", "sandbox-runtime", "benchmarks")
LONGEST_FILE_LINES = 400
LONGEST_FUNCTION_LINES = 50
# They say nothing, or say another thing than our own words: sandbox, slot, lease, holder, run.
WEAK_WORDS = {"base", "common", "helper", "instance", "job", "manager", "misc", "util", "worker"}
LOCKS = ["client.lock", "dev.lock", "programs.lock", "server.lock"]


def class_names(path: Path) -> list[str]:
    return [node.name for node in ast.walk(tree.parsed(path)) if isinstance(node, ast.ClassDef)]


def function_lengths(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{tree.shown(path)}:{node.name}", (node.end_lineno or 0) - node.lineno + 1


def words(name: str) -> set[str]:
    """Split a module's or a class's name into lower-case words, each in the singular."""
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_names_use_our_words():
    names = [
        (tree.shown(path), name)
        for path in tree.python_files(*SOURCES)
        for name in (path.stem, path.parent.name, *class_names(path))
    ]
    assert [named for named in names if words(named[1]) & WEAK_WORDS] == []


def test_words_are_told_apart():
    assert words("PoolManager") & words("job_utils") == set()
    assert words("HTTPWorkers") == {"http", "worker"}


def test_no_file_is_long():
    lengths = {tree.shown(path): path.read_text().count("\n") for path in tree.python_files(*SOURCES, "tests")}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE_LINES} == {}


def test_no_function_is_long():
    lengths = [found for path in tree.python_files(*SOURCES, "tests") for found in function_lengths(path)]
    assert [found for found in lengths if found[1] > LONGEST_FUNCTION_LINES] == []


@pytest.mark.parametrize("path", tree.python_files("sandbox-runtime", "pool/local/launcher"), ids=tree.shown)
def test_what_runs_in_a_sandbox_is_python_3_9(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash_and_no_address(name):
    text = (tree.ROOT / "requirements" / name).read_text()
    pins = [line for line in text.replace("\\\n", "").splitlines() if line and not line.lstrip().startswith("#")]
    assert pins
    assert "//" not in text
    assert [pin for pin in pins if not re.match(r"[a-z0-9.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", pin)] == []
