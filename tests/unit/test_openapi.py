"""`/openapi.json` leaves nothing out: it is walked beside the routes, the table of errors and the types of answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from broker import bodies, connection, errors, json_values, validation
from broker.app import ROUTES
from broker.json_values import a_boolean
from broker.openapi import document
from broker.operations import CONNECTION, EVERYWHERE, OPEN_PATHS, OPERATIONS, SEEN_BY_NOBODY, Operation
from broker.paths import workspace_path
from broker.routes import health_body
from pool import Isolation, PoolError, ProtocolError, SandboxError
from tests import source_tree as tree
from tests.unit.test_health import WELL

WORDS = [word for word in json_values._BOOLEANS if isinstance(word, str)]
PAGES = {"/", "/docs", "/openapi.json", "/pages/{name}"}
"""For people, and the document itself."""
ROOTS = {errors.BrokerError, PoolError, ProtocolError, SandboxError}
DOCUMENT = document()
NAMES = [each.name for each in OPERATIONS]


def operation(name: str) -> dict[str, Any]:
    (found,) = [each for item in DOCUMENT["paths"].values() for each in item.values() if is_operation(each, name)]
    return found


def is_operation(found: Any, name: str) -> bool:
    return isinstance(found, dict) and found.get("operationId") == name


def codes(name: str, status: int) -> set[str]:
    """Empty where a status is no error of this operation's."""
    response = operation(name)["responses"].get(str(status), {})
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return {
        code for each in schema.get("allOf", ()) for code in each.get("properties", {}).get("code", {}).get("enum", ())
    }


def walk(value: Any) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


# --- nothing is left out --------------------------------------------------------------------


def test_every_route_is_an_operation_and_every_operation_a_route():
    routes = {(method, route.path) for route in ROUTES for method in route.methods or () if route.path not in PAGES}
    assert routes - {("HEAD", path) for _, path in routes} == {(each.method.upper(), each.path) for each in OPERATIONS}


@pytest.mark.parametrize("error", errors.TABLE, ids=lambda error: error.__name__)
def test_every_error_of_the_table_is_documented_somewhere(error: type[Exception]):
    if error in SEEN_BY_NOBODY:
        return
    kind = errors.TABLE[error]
    assert [name for name in NAMES if kind.code in codes(name, kind.status)]


def test_what_nobody_sees_is_in_the_table_with_its_reason():
    assert set(SEEN_BY_NOBODY) <= set(errors.TABLE)
    assert all(SEEN_BY_NOBODY.values())


def raised(file: str) -> set[str]:
    text = (tree.ROOT / "broker" / file).read_text()
    return set(re.findall(r"raise (?:errors\.)?([A-Z]\w+)\(", text))


SOURCES = {
    "execute": ["admission.py", "body.py", "validation.py", "paths.py", "storage.py"],
    "uploadFile": ["upload.py", "multipart.py", "storage.py", "files.py"],
    "downloadFile": ["files.py", "storage.py"],
}


@pytest.mark.parametrize("each", [each for each in OPERATIONS if each.name in SOURCES], ids=lambda each: each.name)
def test_what_the_code_of_an_operation_raises_it_documents(each: Operation):
    # FileMissing on the way in, StorageFull on the way out: raised in these files, not by this operation.
    elsewhere = {"uploadFile": {"FileMissing"}, "downloadFile": {"StorageFull"}}.get(each.name, set())
    known = {error.__name__ for error in (*each.errors, *EVERYWHERE, *SEEN_BY_NOBODY)}
    names = {name for file in SOURCES[each.name] for name in raised(file)} & {error.__name__ for error in errors.TABLE}
    assert names
    assert names - elsewhere - known == set()


def test_refusals_of_a_connection_are_documented_at_every_operation():
    text = (tree.ROOT / "broker/connection.py").read_text()
    assert {int(status) for status in re.findall(r"\((4\d\d), ", text)} == set(CONNECTION)
    assert f"{connection.HEAD_SECONDS:.0f} s" in CONNECTION[408]
    assert f"{connection.MAX_HEAD_BYTES // 1024} KiB" in CONNECTION[431]
    for name in NAMES:
        assert all("bad_http" in codes(name, status) for status in CONNECTION)


@pytest.mark.parametrize("status", [429, 503])
def test_who_is_sent_away_is_told_for_how_long(status: int):
    refusals = [operation(name)["responses"].get(str(status)) for name in NAMES if name != "ready"]
    assert any(refusals)
    assert all("Retry-After" in each["headers"] for each in refusals if each)


def test_who_waits_for_a_run_elsewhere_may_be_told_for_how_long():
    keyed = [name for name in NAMES if "key_in_use" in codes(name, 409)]
    headers = [operation(name)["responses"]["409"]["headers"] for name in keyed]
    assert [each["Retry-After"]["required"] for each in headers] == [False] * len(keyed) != []


# --- keys -----------------------------------------------------------------------------------


def test_where_there_are_keys_all_but_the_probes_need_one_and_say_what_is_answered_without():
    assert DOCUMENT["security"] == [{"bearer": []}, {"apiKey": []}]
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    without = {name for name in NAMES if operation(name).get("security") == []}
    assert without == {"health", "ready"} == {name for name in NAMES if not codes(name, 401)}


def test_where_the_metrics_are_public_they_need_none():
    found = document(60_000, OPEN_PATHS | {"/metrics"})["paths"]["/metrics"]["get"]
    assert (found["security"], "401" in found["responses"]) == ([], False)


def test_where_there_are_no_keys_nothing_is_said_of_any():
    text = json.dumps(document(60_000, None))
    assert not any(word in text for word in ("security", "unauthenticated", "apiKey"))


# --- the types are those of the code --------------------------------------------------------


def fields(kind: type) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def test_the_body_of_a_program_has_the_fields_that_are_read():
    assert fields(bodies.ExecuteBody) == fields(validation._Body)


def test_what_is_documented_is_accepted_and_what_breaks_a_bound_is_not():
    schema = DOCUMENT["components"]["schemas"]["ExecuteBody"]["properties"]
    example = operation("execute")["requestBody"]["content"]["application/json"]["example"]
    assert validation.execute_request(json.dumps(example).encode(), max_timeout_ms=60_000)
    for timeout_ms in (schema["timeout_ms"]["minimum"] - 1, schema["timeout_ms"]["maximum"] + 1):
        body = json.dumps({"code": "", "timeout_ms": timeout_ms}).encode()
        with pytest.raises(errors.BrokerError):
            validation.execute_request(body, max_timeout_ms=60_000)


@pytest.mark.parametrize("value", [True, 0, 1, *(kind(word) for word in WORDS for kind in (str, str.upper, str.title))])
def test_what_is_taken_for_true_or_false_is_documented(value: object):
    assert a_boolean(value, ("body",)) in (True, False)
    assert not isinstance(value, str) or re.search(bodies.TRUE_OR_FALSE, value)


def test_what_is_documented_for_true_or_false_is_all_that_is_taken():
    texts = ["", "tru", "yess", "2", "ja", "off ", "none"]
    assert not any(re.search(bodies.TRUE_OR_FALSE, text) for text in texts)
    assert len(WORDS) == bodies.TRUE_OR_FALSE.count("|") + 1


def test_every_integer_of_a_body_says_what_json_schema_cannot():
    schemas = DOCUMENT["components"]["schemas"]
    integers = [
        field
        for body in ("ExecuteBody", "SessionBody", "BashBody")
        for field in schemas[body]["properties"].values()
        if field.get("type") == "integer"
    ]
    assert len(integers) == 3
    assert all("without a decimal point" in field["description"] for field in integers)


def test_the_longest_run_is_that_of_the_operator():
    schemas = document(1234)["components"]["schemas"]
    assert schemas["ExecuteBody"]["properties"]["timeout_ms"]["maximum"] == 1234


@pytest.mark.parametrize("path", ["a", "a/b", ".a", "..a", "a..", "a/...", "./a", "a/__main__.py", "报告.csv", " "])
def test_a_path_that_is_documented_is_accepted(path: str):
    assert re.search(bodies.RELATIVE, path)
    assert workspace_path(path)


@pytest.mark.parametrize(
    "path", ["", "/a", "..", "a/..", "../a", "a/../b", ".", "./", "./.", "__main__.py", "./__main__.py", "a\0"]
)
def test_a_path_that_is_refused_is_not_documented(path: str):
    assert not re.search(bodies.RELATIVE, path)
    with pytest.raises(errors.Unprocessable):
        workspace_path(path)


def test_health_answers_what_is_documented():
    assert set(health_body(WELL, Isolation(level="full"), "local")) == fields(bodies.Health)


def test_an_error_answers_what_is_documented():
    answer = errors.answer(errors.FileMissing("no"))
    assert set(answer.body) == fields(bodies.ErrorBody)
    assert set(answer.event) == fields(bodies.ErrorEvent)


# --- it can be used -------------------------------------------------------------------------


def test_every_reference_leads_somewhere():
    references = {found["$ref"] for found in walk(DOCUMENT) if isinstance(found, dict) and "$ref" in found}
    for reference in references:
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_can_be_offered_as_a_tool(name: str):
    found = operation(name)
    assert re.fullmatch(r"[a-z][A-Za-z]{2,40}", name)
    assert 10 < len(found["summary"]) < 90
    assert len(found["description"]) > 20
    # As arguments a model should see what the call is about, and no header of transport.
    assert {each["in"] for each in found.get("parameters", ())} <= {"path"}


def test_names_are_given_once():
    assert len(NAMES) == len(set(NAMES))


def test_every_event_of_a_stream_has_its_type():
    content = operation("executeStream")["responses"]["200"]["content"]["text/event-stream"]
    text = (tree.ROOT / "broker/stream.py").read_text()
    names = {each["properties"]["event"]["const"] for each in content["schema"]["oneOf"]}
    assert names == set(re.findall(r"\.event\(\"(\w+)\"", text))
    assert json.loads(content["example"].split("data: ")[1].split("\n")[0]) == {"stream": "stdout", "data": "42\n"}


def test_the_document_is_json():
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT
