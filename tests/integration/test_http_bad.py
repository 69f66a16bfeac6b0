"""What is not HTTP, or too much of it. The service answers, or hangs up, and goes on."""

from __future__ import annotations

import socket
import time
from contextlib import closing, suppress
from typing import Any

import pytest

from broker import body, connection
from broker.connection import MAX_HEAD_BYTES
from broker.validation import MAX_BODY_BYTES
from tests.http_service import Running

POST = "POST /v1/execute HTTP/1.1\r\nContent-Type: application/json"


def exchange(service: Running, data: bytes) -> bytes:
    """Send bytes and return all that comes back until the connection closes."""
    host, port = service.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        try:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            return b""


@pytest.fixture
def address(service: Running) -> str:
    return service.url.removeprefix("http://")


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
def test_what_is_not_http_is_400_in_json(service: Running, data: bytes) -> None:
    answer = exchange(service, data)
    assert answer.startswith(b"HTTP/1.1 400 ") or answer.startswith(b"HTTP/1.1 403 ")
    assert b'{"detail":' in answer


def test_two_hosts_are_400(service: Running, address: str) -> None:
    head = f"GET /health HTTP/1.1\r\nHost: {address}\r\nhost: localhost\r\nConnection: close\r\n\r\n"
    assert exchange(service, head.encode()).startswith(b"HTTP/1.1 400 ")


def test_a_head_without_end_is_431(service: Running, address: str) -> None:
    head = f"GET /health HTTP/1.1\r\nHost: {address}\r\nX: ".encode()
    assert exchange(service, head + b"x" * MAX_HEAD_BYTES).startswith(b"HTTP/1.1 431 ")


def test_a_head_in_one_piece_is_counted_too(make_service: Any) -> None:
    service = make_service()
    head = f"GET /health HTTP/1.1\r\nHost: {service.url.removeprefix('http://')}\r\nConnection: close\r\nX: "
    whole = head.encode() + b"x" * 70_000 + b"\r\n\r\n"
    assert exchange(service, whole).startswith(b"HTTP/1.1 431 ")
    many = head.encode() + b"x" + b"\r\nY: y" * 20_000 + b"\r\n\r\n"
    assert exchange(service, many).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("trailers", [b"X: " + b"x" * 5_000_000, b"X: xxxxxxxxxx\r\n" * 300_000])
def test_trailers_without_end_are_431(service: Running, address: str, trailers: bytes) -> None:
    head = f"{POST}\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n\r\n"
    host, port = address.split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        connection.sendall(head.encode() + b"2\r\n{}\r\n0\r\n")
        with suppress(ConnectionError):
            connection.sendall(trailers)
            # The refusal may be lost to the reset that follows it; what counts is that the connection is closed.
            assert connection.recv(65536)[:13] in (b"HTTP/1.1 431 ", b"")


def test_trailers_are_no_headers(service: Running, address: str) -> None:
    head = f"{POST}\r\nHost: {address}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = exchange(service, head.encode() + b'c\r\n{"code": ""}\r\n0\r\nHost: evil.example\r\n\r\n')
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "x/1"])
def test_an_upgrade_is_ignored_and_the_body_is_read(service: Running, address: str, upgrade: str) -> None:
    one = (
        f"{POST}\r\nHost: {address}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n"
        'HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 12\r\n\r\n{"code": ""}'
    )
    last = f"GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    answer = exchange(service, (one + one + last).encode())
    assert answer.count(b"HTTP/1.1 200 ") == 3


def test_an_upgrade_whose_body_comes_later_is_ignored(service: Running, address: str) -> None:
    head = f"{POST}\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 12\r\n\r\n"
    host, port = address.split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        for piece in (head[:70], head[70:], '{"code"', ': ""}'):
            connection.sendall(piece.encode())
            time.sleep(0.02)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea"])
def test_a_head_that_does_not_come_is_not_waited_for(
    make_service: Any, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    answer = exchange(make_service(), start)
    assert answer.startswith(b"HTTP/1.1 200 " if b"/health" in start else b"HTTP/1.1 408 ")
    assert b"HTTP/1.1 408 " in answer


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: -1",
        "Content-Length: five",
        "Transfer-Encoding: gzip",
    ],
)
def test_ambiguous_lengths_are_refused(service: Running, address: str, headers: str) -> None:
    head = f"{POST}\r\nHost: {address}\r\n{headers}\r\nConnection: close\r\n\r\n"
    assert exchange(service, head.encode() + b"{}")[9:12] in (b"400", b"422", b"413")


@pytest.mark.parametrize("path", ["/v1/execute", "/v1/execute/stream"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_above_32_mib_is_413(service: Running, path: str, declared: bool) -> None:
    data = b'{"code": "' + b"#" * MAX_BODY_BYTES + b'"}'
    pieces = (data[start : start + 2**20] for start in range(0, len(data), 2**20))
    answer = service.client.post(
        path, content=data if declared else pieces, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["detail"]) == (413, "Request body exceeds maximum of 32 MB")


@pytest.mark.parametrize("path", ["/v1/execute", "/v1/execute/stream"])
def test_bodies_together_have_a_limit_and_give_back_what_they_held(make_service: Any, path: str) -> None:
    service = make_service()
    service.service.bodies.limit_bytes = 1000
    for _ in range(3):
        assert service.client.post(path, json={"code": "#" * 600}).status_code == 200
        answer = service.client.post(path, json={"code": "#" * 1000})
        assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "bodies_full", True)
        assert answer.headers["retry-after"] == "1"
    service.until_idle()
    assert service.service.bodies.held_bytes == 0


def test_ten_megabytes_of_source_run(local: Running) -> None:
    assert local.execute("#" * 10_000_000 + "\nprint('end')").json()["stdout"] == "end\n"


def test_a_body_that_stands_still_is_408(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "STALL_SECONDS", 0.2)
    service = make_service()
    address = service.url.removeprefix("http://")
    head = f"{POST}\r\nHost: {address}\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
    assert exchange(service, head.encode() + b"{").startswith(b"HTTP/1.1 408 ")


def test_an_error_inside_is_500_with_an_id_and_no_word_of_it(make_service: Any) -> None:
    service = make_service()
    service.service.pool.snapshot = lambda: 1 / 0
    answer = service.client.get("/health", headers={"X-Request-Id": "find-me"})
    assert (answer.status_code, answer.json()["code"], answer.headers["x-request-id"]) == (500, "internal", "find-me")
    assert "division" not in answer.text
    del service.service.pool.snapshot


def test_an_expectation_is_answered(service: Running, address: str) -> None:
    head = f"{POST}\r\nHost: {address}\r\nContent-Length: 12\r\n"
    answer = exchange(service, f'{head}Expect: 100-continue\r\nConnection: close\r\n\r\n{{"code": ""}}'.encode())
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
