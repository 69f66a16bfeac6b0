"""Each answer that the document has of an operation is given by it, in a service that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.openapi import document
from broker.operations import OPERATIONS
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


@pytest.mark.parametrize(("name", "status", "code"), list(documented()))
def test_a_refusal_that_is_documented_is_given(
    name: str, status: int, code: str, make_service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected: Said = status, code
    assert PROVOKED[expected](Scene(name, make_service, monkeypatch, tmp_path)) == expected


def test_nothing_is_provoked_that_is_not_documented() -> None:
    assert set(PROVOKED) == {(status, code) for _, status, code in documented()}


@pytest.mark.parametrize("name", [each.name for each in OPERATIONS])
def test_the_good_answer_is_given(
    name: str, make_service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene = Scene(name, make_service, monkeypatch, tmp_path)
    assert good(scene) == scene.each.status
