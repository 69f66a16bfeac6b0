"""What counts as reached: whoever answers, even to say no. Silence, and no way there, do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox_runtime import reaching
from tests.unit import confined

HAS_IPV6 = Path("/proc/net/if_inet6").is_file() and " lo\n" in Path("/proc/net/if_inet6").read_text()
LOOPBACKS = pytest.mark.parametrize("host", ["127.0.0.1", *(["::1"] if HAS_IPV6 else [])])


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "ANSWER_SECONDS", 0.2)


@contextmanager
def bound(kind: socket.SocketKind, host: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as found:
        found.bind((host, 0))
        yield found


@LOOPBACKS
def test_one_that_takes_the_connection_is_reached(host: str) -> None:
    with bound(socket.SOCK_STREAM, host) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        assert reaching.reached([("tcp", host, port)]) == [f"tcp {host}:{port}"]


@LOOPBACKS
def test_one_that_refuses_the_connection_is_reached_for_somebody_said_no(host: str) -> None:
    with bound(socket.SOCK_STREAM, host) as nobody_listens:
        port = nobody_listens.getsockname()[1]
        assert reaching.reached([("tcp", host, port)]) == [f"tcp {host}:{port}"]


def test_one_that_takes_no_connection_any_more_is_not_reached() -> None:
    with bound(socket.SOCK_STREAM, "127.0.0.1") as listener:
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the only one that has a place
            assert reaching.reached([("tcp", "127.0.0.1", port)]) == []


def test_a_name_server_that_answers_is_reached_and_a_silent_one_is_not() -> None:
    with bound(socket.SOCK_DGRAM, "127.0.0.1") as server, bound(socket.SOCK_DGRAM, "127.0.0.1") as silent:
        answering = threading.Thread(target=lambda: server.sendto(b"an answer", server.recvfrom(512)[1]))
        answering.start()
        ports = [each.getsockname()[1] for each in (silent, server)]
        found = reaching.reached([("udp", "127.0.0.1", port) for port in ports])
        answering.join()
    assert found == [f"udp 127.0.0.1:{ports[1]}"]


def test_where_there_is_no_way_nothing_is_reached() -> None:
    source = """
        from sandbox_runtime import reaching
        namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET)
        reaching.ANSWER_SECONDS = 0.2
        answer(reaching.reached([("tcp", "127.0.0.1", 80), ("udp", "127.0.0.1", 53), ("tcp", "::1", 80)]))
    """
    assert confined.answer_of(source) == []
