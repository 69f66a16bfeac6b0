"""A connection holds nothing for a client that stops reading, or that sends what is no request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker import connection, server, stream, unread
from tests.http_service import Running
from tests.tenants import key_file

FOREVER = "import time\nprint('on', flush=True)\ntime.sleep(60)"
LOUD = "import sys\nfor stream in (sys.stdout, sys.stderr): stream.write('\\x01' * 1_000_000)"
LARGE_BYTES = 32 * 2**20
"""More than the kernel takes for a client that reads nothing."""


@contextmanager
def opened(service: Running) -> Iterator[socket.socket]:
    """With little room for what is not read."""
    host, port = service.url.removeprefix("http://").split(":")
    with closing(socket.socket()) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        found.settimeout(10)
        found.connect((host, int(port)))
        yield found


def head(service: Running, line: str, *headers: str) -> bytes:
    host = service.url.removeprefix("http://")
    return "\r\n".join([f"{line} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def execute(service: Running, path: str, code: str) -> bytes:
    body = json.dumps({"code": code, "timeout_ms": 60_000}).encode()
    kind = "Content-Type: application/json"
    return head(service, f"POST {path}", kind, f"Content-Length: {len(body)}") + body


def rest(client: socket.socket) -> bytes:
    """What comes until the connection is closed; it fails when it stays open for 10 s."""
    found = bytearray()
    try:
        while piece := client.recv(65536):
            found += piece
    except ConnectionError:
        pass
    return bytes(found)


def until_recorded(service: Running, route: str) -> None:
    """A request of this route has ended."""
    service.until(lambda: f'route="{route}"' in service.service.metrics.text().decode())


def is_running(service: Running) -> bool:
    return service.service.pool.snapshot().in_flight == 1


# --- who does not read ----------------------------------------------------------------------


def test_a_stream_behind_an_answer_that_is_not_read_holds_no_sandbox(
    make_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "STALL_SECONDS", 0.3)
    service = make_service("local", pool_size=1)
    with opened(service) as client:
        client.sendall(execute(service, "/v1/execute", LOUD) + execute(service, "/v1/execute/stream", FOREVER))
        until_recorded(service, "execute_stream")
        service.until_idle()


def test_the_start_of_a_stream_waits_no_longer_than_its_events(
    make_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.3)
    service = make_service("local", pool_size=1)
    with opened(service) as client:
        client.sendall(execute(service, "/v1/execute", LOUD) + execute(service, "/v1/execute/stream", FOREVER))
        until_recorded(service, "execute")
        service.until(lambda: is_running(service))
        service.until(lambda: not is_running(service))


def test_a_download_that_is_not_read_ends(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "STALL_SECONDS", 0.3)
    service = make_service()
    file_id = service.upload(b"x" * LARGE_BYTES)
    with opened(service) as client:
        client.sendall(head(service, f"GET /v1/files/{file_id}"))
        until_recorded(service, "download_file")
        assert len(rest(client)) < LARGE_BYTES


def test_a_download_that_is_read_is_complete(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "STALL_SECONDS", 0.3)
    service = make_service()
    file_id = service.upload(b"x" * LARGE_BYTES)
    with opened(service) as client:
        client.sendall(head(service, f"GET /v1/files/{file_id}", "Connection: close"))
        assert len(rest(client)) > LARGE_BYTES


# --- who sends what is no request -----------------------------------------------------------


def test_an_empty_line_is_no_request(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.5)
    service = make_service()
    with opened(service) as client:
        client.sendall(head(service, "GET /health"))
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"\r\n")
        assert rest(client) == b""


def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(
    make_service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.5)
    service = make_service(keys_file=key_file(tmp_path))
    with opened(service) as client:
        client.sendall(head(service, "POST /v1/files", "Content-Length: 1000000"))
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
        client.sendall(b"x")
        assert rest(client) == b""


def test_a_head_that_comes_while_another_request_is_answered_is_not_cut_off(
    make_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.2)
    service = make_service("local", pool_size=1)
    code = "import time; time.sleep(1)"
    with opened(service) as client:
        whole = execute(service, "/v1/execute", code)
        # The second head is half here when the first answer starts the clock, and runs for longer than that has.
        client.sendall(whole + whole[:40])
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(whole[40:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


# --- who sends it behind a request that runs ------------------------------------------------


def test_garbage_behind_a_stream_stays_out_of_it(make_service: Any) -> None:
    service = make_service("local", pool_size=1)
    with opened(service) as client:
        client.sendall(execute(service, "/v1/execute/stream", FOREVER))
        answer = b""
        while b'"on' not in answer:
            answer += client.recv(65536)
        client.sendall(head(service, "GET /health") + b"nonsense\r\n\r\n")
        assert b"HTTP/1.1 " not in rest(client)
    service.until_idle()


def test_half_a_head_behind_a_run_is_not_its_answer(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    service = make_service("local", pool_size=1)
    with opened(service) as client:
        client.sendall(execute(service, "/v1/execute", FOREVER) + b"GET /hea")
        assert rest(client) == b""
    service.until_idle()


def test_garbage_in_a_body_is_its_answer(make_service: Any) -> None:
    service = make_service()
    with opened(service) as client:
        client.sendall(head(service, "POST /v1/execute", "Transfer-Encoding: chunked") + b"nonsense\r\n")
        assert rest(client).startswith(b"HTTP/1.1 400 ")
