"""A caller that leaves ends its run, and the sandbox with it."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import Any

import pytest

from broker import stream
from tests.http_service import Running

FOREVER = "import time\nopen('made.txt', 'w').write('x')\nprint('on', flush=True)\ntime.sleep(60)"


def post(service: Running, path: str, code: str) -> socket.socket:
    """Send a request and leave the answer to the caller."""
    host, port = service.url.removeprefix("http://").split(":")
    body = json.dumps({"code": code, "timeout_ms": 60_000}).encode()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{kind}\r\n\r\n"
    connection = socket.create_connection((host, int(port)))
    connection.sendall(head.encode() + body)
    return connection


def is_running(service: Running) -> bool:
    return service.service.pool.snapshot().in_flight == 1


@pytest.mark.parametrize("path", ["/v1/execute", "/v1/execute/stream"])
def test_a_client_that_leaves_ends_the_run_and_the_sandbox(make_service: Any, path: str) -> None:
    service = make_service("local", pool_size=1)
    with closing(post(service, path, FOREVER)):
        service.until(lambda: is_running(service))
    service.until_idle()
    assert 'code_interpreter_sandboxes_retired_total{reason="cancelled"} 1.0' in service.client.get("/metrics").text
    assert service.client.get("/v1/files").json() == {"files": []}
    assert service.execute("print('alive')").json()["stdout"] == "alive\n"


def test_a_client_that_leaves_after_a_long_body_is_noticed(make_service: Any) -> None:
    service = make_service("local", pool_size=1)
    with closing(post(service, "/v1/execute", FOREVER + "\n#" + "x" * 300_000)):
        service.until(lambda: is_running(service))
    service.until_idle()


def test_a_client_that_leaves_the_queue_holds_nothing(make_service: Any) -> None:
    service = make_service("local", pool_size=1, max_in_flight=1)
    with closing(post(service, "/v1/execute", FOREVER)):
        service.until(lambda: is_running(service))
        with closing(post(service, "/v1/execute", FOREVER)):
            service.until(lambda: service.service.pool.snapshot().waiting == 1)
        service.until(lambda: service.service.pool.snapshot().waiting == 0)
    service.until_idle()


def test_a_client_that_leaves_in_the_middle_of_its_body_is_forgotten(make_service: Any) -> None:
    service = make_service()
    host, port = service.url.removeprefix("http://").split(":")
    for path, kind in [("/v1/execute", "application/json"), ("/v1/files", "multipart/form-data; boundary=x")]:
        with closing(socket.create_connection((host, int(port)))) as connection:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n"
            )
            part = '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
            connection.sendall((head + part).encode())
            service.until(lambda: bool(service.service.active) or bool(service.service.store.quotas.used_bytes))
        service.until_idle()
        service.until(lambda: service.service.store.quotas.used_bytes == 0)
    folder = service.service.store.storage.folder
    assert folder is not None
    service.until(lambda: list(folder.glob("*/*")) == [])


def test_a_client_that_stops_reading_is_given_up(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.5)
    service = make_service("local", pool_size=1, max_output_bytes=32 * 2**20)
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with closing(post(service, "/v1/execute/stream", endless)):
        service.until(lambda: is_running(service))
        service.until_idle()
