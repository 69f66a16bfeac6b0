"""Who is let in: keys over HTTP, and what happens when their file changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.app import ROUTES
from broker.keys import line_for
from tests.http_service import Running
from tests.tenants import KEYS, key_file

ANA = KEYS["ana"]


@pytest.fixture
def service(make_service: Any, tmp_path: Path) -> Running:
    found: Running = make_service(keys_file=key_file(tmp_path))
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ANA}"},
        {"Authorization": f"bearer  {ANA}"},
        {"X-API-Key": ANA},
        {"Authorization": "Basic cHJveHk6b3du", "X-API-Key": ANA},
        {"Authorization": "Bearer the-gateways-own", "X-API-Key": ANA},
        {"Authorization": f"Bearer {ANA}", "X-API-Key": ""},
    ],
)
def test_a_key_is_sent_as_bearer_or_in_its_own_header(service: Running, headers: dict[str, str]) -> None:
    answer = service.client.post("/v1/execute", json={"code": "print(1)"}, headers=headers)
    assert (answer.status_code, answer.json()["stdout"]) == (200, "1\n")


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({}, "This service needs an API key"),
        ({"Authorization": "Bearer"}, "This service needs an API key"),
        ({"Authorization": f"Basic {ANA}"}, "This service needs an API key"),
        ({"Authorization": "Bearer wrong"}, "not known here"),
        ({"X-API-Key": ANA[:-1]}, "not known here"),
        ({"Authorization": f"Bearer {ANA}", "X-API-Key": "wrong"}, "not known here"),
    ],
)
def test_without_a_known_key_it_is_401_and_runs_nothing(
    service: Running, headers: dict[str, str], sentence: str
) -> None:
    answer = service.client.post("/v1/execute", json={"code": "print(1)"}, headers=headers)
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (401, "unauthenticated", False)
    assert sentence in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == 'Bearer realm="code-interpreter"'
    assert service.snapshot().runs == 0


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_need_no_key(service: Running, path: str) -> None:
    assert service.client.get(path).status_code == 200


def test_everything_else_needs_one(service: Running) -> None:
    closed = [route for route in ROUTES if route.path not in ("/health", "/ready")]
    for route in closed:
        for method in route.methods or ():
            answer = service.client.request(method, route.path.replace("{file_id}", "x"))
            assert answer.status_code == 401, (method, route.path)


@pytest.mark.parametrize("path", ["/", "/nothing", "/health/", "/Health", "//health", "/v1/../health/x", "/health%2f"])
def test_what_is_not_there_is_401_too(service: Running, path: str) -> None:
    assert service.client.get(path).status_code == 401


def test_the_document_names_keys_where_there_are_any(service: Running, make_service: Any) -> None:
    asked = service.client.get("/openapi.json", headers={"X-API-Key": ANA}).json()
    assert {each["type"] for each in asked["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    assert asked["paths"]["/health"]["get"]["security"] == []
    assert "securitySchemes" not in make_service().client.get("/openapi.json").json()["components"]


def test_metrics_are_open_where_the_operator_says_so(make_service: Any, tmp_path: Path) -> None:
    service = make_service(keys_file=key_file(tmp_path), metrics_public=True)
    assert service.client.get("/metrics").status_code == 200
    assert service.client.get("/v1/files").status_code == 401


def test_a_browser_may_ask_before_it_sends_its_key(make_service: Any, tmp_path: Path) -> None:
    service = make_service(keys_file=key_file(tmp_path), cors_origins=("https://chat.example",))
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-api-key"}
    headers = {"Origin": "https://chat.example"}
    assert service.client.options("/v1/execute", headers={**headers, **asked}).status_code == 200
    refused = service.client.get("/v1/files", headers=headers)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, headers["Origin"])


def test_without_keys_a_key_is_not_looked_at(make_service: Any) -> None:
    answer = make_service().client.get("/v1/files", headers={"X-API-Key": "whatever"})
    assert answer.status_code == 200


def test_a_change_of_the_file_holds_without_a_restart(service: Running, tmp_path: Path) -> None:
    key_file(tmp_path, text=line_for("ana", "the next one"))
    service.call(service.service.tenants.file.look)  # type: ignore[union-attr]  # it has one
    old = service.client.get("/v1/files", headers={"X-API-Key": ANA})
    new = service.client.get("/v1/files", headers={"X-API-Key": "the next one"})
    assert (old.status_code, new.status_code) == (401, 200)


def test_the_file_is_looked_at_by_itself(service: Running, tmp_path: Path) -> None:
    tenants = service.service.tenants
    key_file(tmp_path, text="{")
    service.until(lambda: tenants.trouble is not None)
    body = service.client.get("/health").json()
    assert (body["status"], "keys from before still hold" in body["message"]) == ("ok", True)
    assert service.client.get("/v1/files", headers={"X-API-Key": ANA}).status_code == 200
    key_file(tmp_path)
    service.until(lambda: tenants.trouble is None)
    assert service.client.get("/health").json()["message"] is None
