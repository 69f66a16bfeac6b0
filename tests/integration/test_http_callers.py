"""On a loopback address: names of this machine only, and no page of another origin."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http_service import Running


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "10.0.0.1", "["])
def test_a_rebound_name_is_403(service: Running, host: str) -> None:
    for method, path in (("GET", "/health"), ("POST", "/v1/execute"), ("GET", "/v1/files")):
        answer = service.client.request(method, path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_caller")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.8.8.8:99", "[::1]:80", "a.localhost"]
)
def test_a_local_name_is_answered(service: Running, host: str) -> None:
    assert service.client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1"])
def test_a_page_of_another_origin_is_403_and_runs_nothing(service: Running, origin: str) -> None:
    runs = service.snapshot().runs
    answer = service.client.post("/v1/execute", json={"code": "print(1)"}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert service.snapshot().runs == runs


def test_a_page_of_our_own_origin_is_answered(service: Running) -> None:
    assert service.client.get("/health", headers={"Origin": service.url}).status_code == 200


def test_listed_origins_may_call_and_are_told_so(make_service: Any) -> None:
    service = make_service(cors_origins=("https://chat.example",))
    headers = {"Origin": "https://chat.example"}
    answer = service.client.post("/v1/execute", json={"code": "print(1)"}, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://chat.example")
    asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert service.client.options("/v1/execute", headers=asked).status_code == 200
    assert service.client.get("/health", headers={"Origin": "https://evil.example"}).status_code == 403


def test_origins_are_compared_as_browsers_spell_them(make_service: Any) -> None:
    service = make_service(cors_origins=("http://Chat.Example/",))
    answer = service.client.get("/health", headers={"Origin": "http://chat.example"})
    assert answer.headers["access-control-allow-origin"] == "http://chat.example"


def test_listed_hosts_are_answered(make_service: Any) -> None:
    service = make_service(allowed_hosts=("Code.Internal",))
    assert service.client.get("/health", headers={"Host": "code.internal:8000"}).status_code == 200
    assert service.client.get("/health", headers={"Host": "other.internal"}).status_code == 403
