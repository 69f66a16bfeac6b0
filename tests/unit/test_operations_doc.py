"""`docs/operations.md` names every word that an operator can meet: holds, metrics and their labels."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.metrics import PREFIX, Metrics, PoolCollector
from pool import PoolSettings, Retirement, RunLimits, Snapshot, State
from pool.kube import manifest
from pool.ledger import Ledger
from pool.program import Reason
from pool.snapshot import of_ledger
from tests import source_tree as tree

TEXT = (tree.ROOT / "docs/operations.md").read_text()


def is_named(word: str) -> bool:
    return f"`{word}`" in TEXT


def raised_with(path: Path) -> Iterator[ast.expr]:
    """What a file gives for the reason of a failed start."""
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("SandboxStartFailed", "failed"):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "reason")


def words_of(value: ast.expr, path: Path) -> set[str]:
    """The words that an expression can be: a literal, a constant of its module, or what a function of it returns."""
    match value:
        case ast.Constant(value=str(word)):
            return {word}
        case ast.Name(id=name):
            return {word for found in constants(path, name) for word in words_of(found, path)}
        case ast.Call(func=ast.Name(id=name)):
            return {word for found in returned(path, name) for word in literals(found)}
        case ast.Attribute(attr="reason"):  # of a failure that was made elsewhere
            return set()
    raise AssertionError(f"{tree.shown(path)}:{value.lineno}: a reason that this test cannot read")


def constants(path: Path, name: str) -> list[ast.expr]:
    found = [node for node in tree.parsed(path).body if isinstance(node, ast.Assign)]
    return [node.value for node in found if any(ast.unparse(target) == name for target in node.targets)]


def returned(path: Path, name: str) -> list[ast.expr]:
    functions = [node for node in tree.parsed(path).body if isinstance(node, ast.FunctionDef) and node.name == name]
    ends = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Return)]
    assert ends, f"{name} is no function of {tree.shown(path)}"
    return [node.value for node in ends if node.value is not None]


def literals(value: ast.expr) -> set[str]:
    """Of a returned value, without what it is chosen by."""
    match value:
        case ast.IfExp(body=body, orelse=other):
            return literals(body) | literals(other)
        case ast.Call(func=ast.Attribute(value=ast.Dict(values=values)), args=[_, other]):
            return {word for each in [*values, other] for word in literals(each)}
        case ast.Constant(value=str(word)):
            return {word}
    raise AssertionError(f"line {value.lineno}: a returned reason that this test cannot read")


def reasons() -> set[str]:
    paths = tree.python_files("pool")
    return {word for path in paths for value in raised_with(path) for word in words_of(value, path)}


def test_the_reasons_are_found():
    assert {"quota", "pod_security", "unschedulable", "egress", "canary", "preload", "launcher", "lost"} <= reasons()


@pytest.mark.parametrize("reason", sorted(reasons()))
def test_each_reason_for_a_hold_is_explained(reason):
    assert is_named(reason)


def a_snapshot() -> Snapshot:
    ledger = Ledger(PoolSettings(size=1, max_in_flight=1), generation=1)
    return of_ledger(ledger, runs=0, opened_at=0.0, now=0.0)


def metric_names() -> set[str]:
    metrics = Metrics(max_in_flight=1, version="1", backend="kubernetes")
    metrics.registry.register(PoolCollector(a_snapshot, lambda: 0))
    families = metrics.registry.collect()
    return {f"{each.name}_total" if each.type == "counter" else each.name for each in families}


@pytest.mark.parametrize("name", sorted(metric_names()))
def test_each_metric_is_explained(name):
    assert is_named(name.removeprefix(f"{PREFIX}_"))


@pytest.mark.parametrize("word", [*Retirement, *Reason, *(state for state in State if state is not State.GONE)])
def test_each_word_that_is_a_label_is_explained(word):
    assert is_named(word.value)


def test_the_memory_of_a_pod_is_that_of_the_manifest():
    assert f"= {manifest.memory_mib(RunLimits())} MiB" in TEXT
