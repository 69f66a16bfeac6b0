"""Two bodies are one request if the same would run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from broker.digest import digest
from broker.schemas import ExecuteRequest, InputFile
from broker.validation import execute_request
from pool import Program

CODE = {"code": "print(1)"}


def of(**fields: Any) -> str:
    return digest(execute_request(msgspec.json.encode({**CODE, **fields}), max_timeout_ms=60_000))


def test_defaults_unknown_fields_and_order_do_not_matter() -> None:
    assert of() == of(stdin=None, timeout_ms=2000, files=[], last_line_interactive="yes", colour="red")
    assert of(env={"A": "1", "B": "2"}) == of(env={"B": "2", "A": "1"})
    files = [{"path": "a", "file_id": "1"}, {"path": "b", "file_id": "2"}]
    assert of(files=files) == of(files=[files[1], {"path": "./a", "file_id": "1"}])


def test_without_a_session_it_is_what_it_was_before_there_were_any() -> None:
    before = "381d2d107f569b2435218ac3f0791637bbe9e2da41c2e117d4a8f27c9b553aa8"
    assert of(session_id=None) == of() == before


DIFFERENT: dict[str, Any] = {
    "code": "print(2)",
    "stdin": "",
    "args": ["a"],
    "env": {"A": "1"},
    "last_line_interactive": False,
    "timeout_ms": 2001,
    "files": [{"path": "a", "file_id": "1"}],
    "session_id": "s",
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_everything_that_decides_what_runs_matters(field: str) -> None:
    assert of(**{field: DIFFERENT[field]}) != of()


def test_no_field_is_left_out() -> None:
    assert {field.name for field in msgspec.structs.fields(Program)} | {"files", "session_id"} == set(DIFFERENT)
    assert {field.name for field in msgspec.structs.fields(ExecuteRequest)} == {"program", "files", "session_id"}
    assert {field.name for field in msgspec.structs.fields(InputFile)} == {"path", "file_id", "given"}


def test_where_one_value_ends_and_the_next_begins_is_told() -> None:
    assert of(args=["ab", "c"]) != of(args=["a", "bc"])
    assert of(args=["a"]) != of(env={"a": ""})
