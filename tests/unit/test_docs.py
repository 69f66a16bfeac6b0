"""What the documents name is there: settings, metrics, values of the chart, files, tests, and pages they link to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]

from broker.command import cli
from broker.metrics import PREFIX
from broker.openapi import document
from broker.settings import ONYX, VARIABLES
from tests import source_tree as tree
from tests.unit.test_operations_doc import metric_names

DOCS = tree.ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
VALUES: dict[str, Any] = yaml.safe_load((tree.ROOT / "deploy/helm/code-interpreter/values.yaml").read_text())
SCENARIOS = 18
LONGEST_PAGE_LINES = 250


def quoted(page: Path) -> list[str]:
    """What stands in backticks, without the blocks of code."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def pairs(words: Iterable[tuple[Path, str]]) -> list[Any]:
    return [pytest.param(page, word, id=f"{page.stem}: {word}") for page, word in sorted(set(words))]


def named(pattern: str, pages: Iterable[Path] = PAGES) -> list[Any]:
    return pairs((page, word) for page in pages for word in quoted(page) if re.fullmatch(pattern, word))


@pytest.mark.parametrize(("page", "name"), named(r"tests/\S+\.py::\w+"))
def test_a_test_that_is_named_exists(page: Path, name: str):
    path, _, function = name.partition("::")
    found = [node.name for node in tree.parsed(tree.ROOT / path).body if isinstance(node, TESTS)]
    assert function in found


TESTS = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize(
    ("page", "name"), named(r"(broker|pool|tests|deploy|images|benchmarks|sandbox-runtime)/[\w./-]*[\w/]")
)
def test_a_file_that_is_named_exists(page: Path, name: str):
    assert (tree.ROOT / name).exists()


@pytest.mark.parametrize(("page", "name"), named(r"BROKER_[A-Z_]+|[A-Z]+(_[A-Z]+)+|HOST|PORT"))
def test_a_setting_that_is_named_exists(page: Path, name: str):
    # NET_ADMIN and the like are words of Linux, LD_PRELOAD and the like of its loader.
    assert (
        name in VARIABLES
        or name in ONYX
        or name in variables_of_the_client()
        or name.startswith(("CAP_", "AF_", "LD_"))
        or name in {"NET_ADMIN"}
    )


def variables_of_the_client() -> set[str]:
    options = [option for command in every_command(cli) for option in command.params]
    return {str(option.envvar) for option in options if option.envvar}


def every_command(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from every_command(found)


TYPED = re.compile(r"code-interpreter ((?:files|sessions) \w+|\w+)([^#\n`]*)")


@pytest.mark.parametrize(
    ("page", "line"),
    pairs(
        (page, found[0].strip())
        for page in [*PAGES, tree.ROOT / "README.md"]
        for found in TYPED.finditer(page.read_text())
        if page.name != "progress.md" and not found[0].startswith("code-interpreter deploy")
    ),
)
def test_a_command_that_is_shown_exists_with_its_options(page: Path, line: str):
    found = TYPED.match(line)
    assert found is not None
    command: click.Command = cli
    for name in found[1].split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name) or pytest.fail(f"there is no {name}")
    known = {word for option in command.params for word in (*option.opts, "--help")}
    assert {word.partition("=")[0] for word in re.findall(r"(?<= )--[a-z-]+", found[2].partition(".py")[0])} <= known


@pytest.mark.parametrize(("page", "name"), named(rf"{PREFIX}_\w+"))
def test_a_metric_that_is_named_exists(page: Path, name: str):
    assert name in metric_names()


def parts_of_values() -> str:
    return "|".join(re.escape(name) for name, value in VALUES.items() if isinstance(value, dict))


@pytest.mark.parametrize(("page", "name"), named(rf"({parts_of_values()})(\.\w+)+"))
def test_a_value_that_is_named_exists(page: Path, name: str):
    found: Any = VALUES
    for part in name.split("."):
        # An empty mapping takes what Kubernetes knows.
        if found == {}:
            return
        assert part in found
        found = found[part]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_link_leads_somewhere(page: Path):
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()
    left_out = {"README.md", "progress.md"}
    assert [page.name for page in PAGES if page.name not in left_out and f"({page.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short(page: Path):
    assert page.read_text().count("\n") <= LONGEST_PAGE_LINES


def test_the_operations_that_are_named_exist():
    names = {
        each["operationId"]
        for item in document()["paths"].values()
        for key, each in item.items()
        if key != "parameters"
    }
    assert {"execute", "uploadFile", "executeStream"} <= names & set(quoted(DOCS / "install.md"))


def test_all_scenarios_of_the_benchmark_are_judged():
    table = (DOCS / "security.md").read_text().partition("## SandboxEscapeBench")[2]
    verdicts = re.findall(r"^\| .+? \| \**(absent|patched|not ours|applies)\** \| .+ \|$", table, flags=re.MULTILINE)
    assert len(verdicts) == SCENARIOS
