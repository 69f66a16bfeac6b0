"""Whatever is sent, the answer is a documented one, and the service goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.errors import TABLE
from broker.quotas import Kind
from tests.http_service import Running, running

DOCUMENTED = {200, 201, 204, 400, 403, 404, 405, 431} | {kind.status for kind in TABLE.values()} - {500}
PATHS = ["/v1/execute", "/v1/execute/stream", "/v1/files", "/v1/files/x", "/health", "/ready", "/metrics", "/docs", "/"]
FUZZ = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

# Lone surrogates and NaN too: Python's own encoder spells them, so clients send them.
any_text = st.text(st.characters(exclude_categories=[]), max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
file_like = st.fixed_dictionaries(
    {}, optional={"path": anything | st.sampled_from(["a", "../a", "/a"]), "file_id": anything}
)
request_like = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from(["", "print(1)", "1/0", "x" * 1000, "\0"]) | anything,
        "stdin": anything,
        "timeout_ms": anything | st.sampled_from([1, 100, 60_000, 60_001]),
        "last_line_interactive": anything,
        "files": anything | st.lists(file_like, max_size=3),
        "args": anything,
        "env": anything,
        "unknown": anything,
    },
)
header_text = st.text(st.characters(codec="latin-1"), max_size=40)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("fuzz")) as found:
        yield found
        # It went on through all of it, and nothing is left of it.
        assert found.execute("print('alive')").json()["stdout"] == "alive\n"
        found.until_idle()
        assert found.service.store.quotas.total(Kind.WRITING) == 0


def status_of(service: Running, request: bytes) -> int | None:
    """The status of the first answer; None when the connection closes without one."""
    host, port = service.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except ConnectionError:
            return None
    return int(answer[9:12]) if answer else None


def assert_documented(status: int | None) -> None:
    assert status is None or status in DOCUMENTED


@FUZZ
@given(path=st.sampled_from(PATHS[:2]), body=request_like | anything)
def test_any_json(service: Running, path: str, body: Any) -> None:
    answer = service.client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert_documented(answer.status_code)
    if answer.status_code == 422:
        assert answer.json()["detail"]


@FUZZ
@given(
    path=st.sampled_from(PATHS[:3]),
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/json", "multipart/form-data; boundary=x", "text/plain"]),
)
def test_any_body(service: Running, path: str, body: bytes, kind: str) -> None:
    assert_documented(service.client.post(path, content=body, headers={"Content-Type": kind}).status_code)


@FUZZ
@given(
    st.lists(
        st.sampled_from(
            [
                b"--x",
                b"\r\n",
                b"--",
                b"x",
                b"\r\n\r\n",
                b'Content-Disposition: form-data; name="file"',
                b'; filename="a"',
                b"\0",
                b":",
            ]
        ),
        max_size=25,
    )
)
def test_anything_like_multipart(service: Running, pieces: list[bytes]) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = service.client.post("/v1/files", content=b"".join(pieces), headers=headers)
    assert answer.status_code in (201, 422)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"]),
    path=st.sampled_from(PATHS) | st.text(st.characters(codec="ascii"), max_size=30).map(lambda text: f"/{text}"),
    headers=st.dictionaries(
        st.sampled_from(
            [
                "Content-Type",
                "Content-Length",
                "X-Request-Id",
                "Origin",
                "Range",
                "Expect",
                "Transfer-Encoding",
                "Connection",
                "Accept",
            ]
        ),
        header_text,
        max_size=4,
    ),
    body=st.binary(max_size=60),
)
def test_any_request(service: Running, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    host = service.url.removeprefix("http://")
    assert_documented(
        status_of(service, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode("latin-1") + body)
    )


@FUZZ
@given(st.binary(max_size=400))
def test_any_bytes(service: Running, data: bytes) -> None:
    assert_documented(status_of(service, data))


@FUZZ
@given(header_text)
def test_any_request_id_is_echoed_whole_or_replaced(service: Running, text: str) -> None:
    host = service.url.removeprefix("http://")
    request = f"GET /health HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {text}\r\n\r\n".encode("latin-1")
    assert status_of(service, request) in (200, 400, 403)


def test_a_bug_would_be_noticed() -> None:
    assert 500 not in DOCUMENTED
