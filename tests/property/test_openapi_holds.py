"""`/openapi.json` and the service do not contradict each other: what it takes is taken, and every answer is one that it
has, with its code, its headers and its form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.openapi import document
from broker.operations import OPERATIONS
from tests.http_service import Running, events, running
from tests.json_schemas import KINDS, Schemas

DOCUMENT = document()
SCHEMAS = Schemas(DOCUMENT)
BODY = DOCUMENT["components"]["schemas"]["ExecuteBody"]
FUZZ = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
bodies = SCHEMAS.values(BODY)
values: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)
) | st.just([])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("openapi")) as found:
        yield found


def documented(name: str) -> dict[str, Any]:
    (each,) = [each for each in OPERATIONS if each.name == name]
    found: dict[str, Any] = DOCUMENT["paths"][each.path][each.method]
    return found


def assert_documented(name: str, answer: httpx.Response) -> None:
    responses = documented(name)["responses"]
    assert str(answer.status_code) in responses
    response = responses[str(answer.status_code)]
    for header, found in response["headers"].items():
        # Those that are referred to are those of every answer.
        assert header in answer.headers or not found.get("required", True), header
    assert {header.lower() for header in answer.headers} <= {header.lower() for header in response["headers"]} | OF_HTTP
    _assert_body(response, answer)


def _assert_body(response: dict[str, Any], answer: httpx.Response) -> None:
    if "content" not in response:
        assert answer.content == b""
        return
    media = answer.headers["content-type"].partition(";")[0]
    content = response["content"][media]
    if media == "application/json":
        assert list(SCHEMAS.faults(answer.json(), content["schema"])) == []
    if media == "text/event-stream":
        types = {event["const"]: data["contentSchema"] for event, data in map(_parts, content["schema"]["oneOf"])}
        for name, data in events(answer):
            assert list(SCHEMAS.faults(data, types[name])) == []


def _parts(event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return event["properties"]["event"], event["properties"]["data"]


@FUZZ
@given(name=st.sampled_from(["execute", "executeStream"]), body=bodies)
def test_what_is_documented_is_accepted(service: Running, name: str, body: dict[str, Any]) -> None:
    path = {"execute": "/v1/execute", "executeStream": "/v1/execute/stream"}[name]
    answer = service.client.post(path, json=body)
    assert_documented(name, answer)
    # Its form is good: what may still be wrong is that two paths clash or are too long, or that a file is not there.
    assert answer.status_code in (200, 404) or answer.json()["code"] == "unprocessable"


@FUZZ
@given(body=bodies, field=st.sampled_from(sorted(BODY["properties"])), value=values)
def test_what_is_not_documented_is_refused(service: Running, body: dict[str, Any], field: str, value: Any) -> None:
    changed = {**body, field: value}
    if not list(SCHEMAS.faults(changed, BODY)):
        return
    answer = service.client.post("/v1/execute", content=json.dumps(changed), headers=JSON)
    assert answer.status_code == 422
    assert_documented("execute", answer)


JSON = {"Content-Type": "application/json"}
OF_HTTP = {"connection", "content-length", "content-type", "date", "transfer-encoding"}
"""Need no words of ours."""


@pytest.mark.parametrize("field", BODY["required"])
def test_what_is_required_is_missed(service: Running, field: str) -> None:
    answer = service.client.post("/v1/execute", json={})
    assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert_documented("execute", answer)


@FUZZ
@given(data=st.binary(max_size=50), name=st.text(st.characters(codec="utf-8"), max_size=10))
def test_files_answer_as_documented(service: Running, data: bytes, name: str) -> None:
    stored = service.client.post("/v1/files", files={"file": (name, data)})
    assert_documented("uploadFile", stored)
    path = f"/v1/files/{stored.json().get('file_id', 'none')}"
    assert_documented("listFiles", service.client.get("/v1/files"))
    assert_documented("downloadFile", service.client.get(path))
    assert_documented("deleteFile", service.client.delete(path))
    assert_documented("downloadFile", service.client.get(path))


@pytest.mark.parametrize(
    ("name", "path"), [(each.name, each.path) for each in OPERATIONS if each.tag == "operate"], ids=lambda part: part
)
def test_what_machines_ask_is_answered_as_documented(service: Running, name: str, path: str) -> None:
    assert_documented(name, service.client.get(path))


def test_a_foreign_caller_is_told_as_documented(service: Running) -> None:
    for each in OPERATIONS:
        answer = service.client.request(each.method, each.path, headers={"Host": "evil.example"})
        assert answer.status_code == 403
        assert_documented(each.name, answer)


def test_ready_says_no_as_documented(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("drained")) as found:
        found.call(found.service.drain)
        assert_documented("ready", found.client.get("/ready"))
        refused = found.execute("print(1)")
        assert refused.status_code == 503
        assert_documented("execute", refused)


def test_the_check_finds_faults() -> None:
    wrong = {"code": 1, "timeout_ms": 0, "files": [{"path": "/x"}], "args": ["\0"]}
    assert len(list(SCHEMAS.faults(wrong, BODY))) == 5
    assert set(KINDS) >= {"string", "integer", "object", "array", "boolean", "null"}
