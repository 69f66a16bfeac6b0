"""Each answer that the document has of an operation is given by it, in a service that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.openapi import document
from broker.operations import OPERATIONS
from tests.http_service import Running, running
from tests.integration.provoking import PROVOKED, good
from tests.integration.scenes import Said, Scene

DOCUMENT = document()


def documented() -> Iterator[tuple[str, int, str]]:
    """Operation, status and code."""
    for each in OPERATIONS:
        for status, answer in DOCUMENT["paths"][each.path][each.method]["responses"].items():
            for code in _codes(answer):
                yield each.name, int(status), code


def _codes(answer: Any) -> list[str]:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return [code for part in schema.get("allOf", ())[1:] for code in part["properties"]["code"]["enum"]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture
def scene_of(
    make_service: Callable[..., Running], shared: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], Scene]:
    return lambda name: Scene(name, make_service, shared, monkeypatch, tmp_path)


@pytest.mark.parametrize(("name", "status", "code"), list(documented()))
def test_a_refusal_that_is_documented_is_given(
    name: str, status: int, code: str, scene_of: Callable[[str], Scene]
) -> None:
    expected: Said = status, code
    assert PROVOKED[expected](scene_of(name)) == expected


def test_nothing_is_provoked_that_is_not_documented() -> None:
    assert set(PROVOKED) == {(status, code) for _, status, code in documented()}


@pytest.mark.parametrize("name", [each.name for each in OPERATIONS])
def test_the_good_answer_is_given(name: str, scene_of: Callable[[str], Scene]) -> None:
    scene = scene_of(name)
    assert good(scene) == scene.each.status
