"""From bodies to requests. Pure."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import nullcontext, suppress
from typing import Any

import msgspec
import pytest

from broker.errors import SchemaError, Unprocessable
from broker.json_values import MAX_FILES, MAX_INPUT_CHARS, MESSAGES
from broker.paths import check_paths, workspace_path
from broker.schemas import MARKER, RESERVED_BYTES, batch_text
from broker.validation import MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, execute_request
from sandbox_runtime import checks


def request(**fields: Any) -> Any:
    return execute_request(msgspec.json.encode({"code": "", **fields}), max_timeout_ms=60_000)


def entry(body: bytes) -> dict[str, Any]:
    with pytest.raises(SchemaError) as refused:
        execute_request(body, max_timeout_ms=60_000)
    return refused.value.entry


def test_defaults_are_those_of_the_compatible_api() -> None:
    program = request().program
    assert (program.stdin, program.timeout_ms, program.last_line_interactive, program.args) == (None, 2000, True, ())


@pytest.mark.parametrize("text", ["\0", "\ufeff#", "é😀\u2028", "a" * 100_000])
def test_code_and_stdin_hold_whatever_json_can_spell(text: str) -> None:
    program = request(code=text, stdin=text).program
    assert (program.code, program.stdin) == (text, text)


@pytest.mark.parametrize(
    ("given", "meant"), [(True, True), ("yes", True), ("OFF", False), (0, False), ("1", True), (1.0, True)]
)
def test_booleans_are_read_as_the_compatible_api_reads_them(given: Any, meant: bool) -> None:
    assert request(last_line_interactive=given).program.last_line_interactive is meant


@pytest.mark.parametrize("given", [2, None, 0.5, 1e300, [], {}, "maybe", ""])
def test_what_is_no_boolean_is_refused(given: Any) -> None:
    with pytest.raises(SchemaError) as refused:
        request(last_line_interactive=given)
    assert refused.value.entry["type"] == "bool_parsing"


def test_every_refusal_is_in_the_table_of_types() -> None:
    bodies = [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"code":1}',
        b'{"code":"","files":{}}',
        b'{"code":"","env":1}',
        b'{"code":"","args":[1]}',
    ]
    assert {entry(body)["type"] for body in bodies} <= set(MESSAGES)


def test_an_error_does_not_send_much_back() -> None:
    assert entry(msgspec.json.encode({"code": ["x" * MAX_INPUT_CHARS]}))["input"] is None
    assert entry(b'{"code": ' + b"1" * 500 + b"}")["type"] in ("string_type", "json_invalid")
    assert len(entry(msgspec.json.encode({"code": "", "env": {"=" * 5000: ""}}))["loc"][2]) == MAX_INPUT_CHARS


@pytest.mark.parametrize("number", ["1e400", "-1", "0", "99999999999999999999999", "1.0", "1e3", "true", "null", '"1"'])
def test_odd_numbers_are_refused(number: str) -> None:
    with pytest.raises((SchemaError, Unprocessable)):
        execute_request(f'{{"code": "", "timeout_ms": {number}}}'.encode(), max_timeout_ms=60_000)


def test_arguments_and_environment_share_what_one_frame_can_carry() -> None:
    assert (MAX_ARGUMENT_BYTES, MAX_ARGUMENTS) == (checks.MAX_ARGUMENT_BYTES, 1024)
    half = MAX_ARGUMENT_BYTES // 2
    assert request(args=["é" * (half // 2)], env={"A": "b" * (half - 1)}).program.args
    with pytest.raises(Unprocessable, match=str(MAX_ARGUMENT_BYTES)):
        request(args=["é" * (half // 2)], env={"A": "b" * half})
    with pytest.raises(SchemaError):
        request(args=[""] * (MAX_ARGUMENTS + 1))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a", "a"),
        ("./a//b/./c", "a/b/c"),
        ("a/__main__.py", "a/__main__.py"),
        (".hidden", ".hidden"),
        ("a\\b", "a\\b"),
        ("...", "..."),
    ],
)
def test_paths_are_made_plain(given: str, meant: str) -> None:
    assert workspace_path(given) == meant
    assert checks.relative_path(meant)


@pytest.mark.parametrize(
    "given",
    ["/a", "//", "a/..", "..", "", ".", "__main__.py", "__main__.py/x", "a\0b", "n" * 256, "é" * 128, "a/" * 3000],
)
def test_paths_that_cannot_be_are_refused(given: str) -> None:
    with pytest.raises(Unprocessable):
        workspace_path(given)


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "a/b"], ["a/b/c", "a-", "a", "b"], ["x/y", "x"]])
def test_two_inputs_cannot_be_at_one_place(paths: list[str]) -> None:
    with pytest.raises(Unprocessable, match=r"more than once|also a folder"):
        check_paths(paths)


def test_neighbours_are_no_clash() -> None:
    check_paths(["a", "a-b", "a.b/c", "ab", "b/a", "b/ab"])


def test_a_thousand_deep_paths_are_checked_at_once() -> None:
    # A check of every parent of every path would take a minute for this body of 4 MB.
    paths = [f"{number}/" + "a/" * 2000 + "z" for number in range(1000)]
    began = time.perf_counter()
    check_paths(paths)
    assert time.perf_counter() - began < 2


def test_too_many_files_are_refused_before_anything_is_looked_up() -> None:
    files = [{"path": str(number), "file_id": ""} for number in range(MAX_FILES + 1)]
    with pytest.raises(SchemaError) as refused:
        request(files=files)
    assert refused.value.entry["type"] == "too_long"


MANY = b"[" + b",".join([b"[]"] * 500_000) + b"]"
ENTRIES = b"{" + b",".join(b'"%d":""' % number for number in range(200_000)) + b"}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unknown", MANY),
        ("unknown", ENTRIES),
        ("env", ENTRIES),
        ("args", MANY),
        ("files", MANY),
        ("stdin", MANY),
        ("timeout_ms", MANY),
        ("last_line_interactive", ENTRIES),
        ("code", ENTRIES),
    ],
)
def test_a_million_values_are_never_made_into_objects(field: str, value: bytes) -> None:
    body = bytearray(b'{"code":"","%s":%s}' % (field.encode(), value))
    tracemalloc.start()
    try:
        with suppress(SchemaError, Unprocessable) if field != "unknown" else nullcontext():
            execute_request(body, max_timeout_ms=60_000)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_body_that_is_no_object_is_not_made_into_objects() -> None:
    tracemalloc.start()
    try:
        assert entry(MANY)["type"] == "model_attributes_type"
        assert tracemalloc.get_traced_memory()[1] < 3 * len(MANY)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("field", ["args", "env", "files"])
def test_what_is_too_long_is_a_sentence(field: str) -> None:
    with pytest.raises(Unprocessable, match=f"{field} is [0-9]+ bytes of JSON, at most"):
        execute_request(b'{"code":"","%s":%s}' % (field.encode(), MANY), max_timeout_ms=60_000)


def test_a_cut_stream_ends_with_the_marker_within_the_cap() -> None:
    cut = batch_text(b"x" * 100, cap=100, truncated=True)
    assert cut == "x" * (100 - RESERVED_BYTES) + MARKER.decode()
    assert len(cut) <= 100
    assert batch_text(b"x" * 100, cap=100, truncated=False) == "x" * 100
    assert batch_text(b"\xff", cap=100, truncated=False) == "\ufffd"
