"""Runs that wait until a test lets them end, and requests that wait with them."""

from __future__ import annotations

import threading
from typing import Any

import httpx

from sandbox_runtime import wire
from tests.fakes.backend import FakeBackend
from tests.fakes.supervisor import FakeSupervisor, outcome
from tests.http_service import Running

BODY = {"code": "print('hi')"}


class Waiting(FakeSupervisor):
    """Says one line and ends when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_is_open = False

    def run(self, run: str, message: wire.Run) -> None:
        super().run(run, message)
        self.say(wire.Output(stream="stdout", data=b"first\n"), run)

    def results(self) -> list[wire.Message]:
        return [
            wire.Output(stream="stderr", data=b"second\n"),
            wire.File(path="made.txt", data=b"made", last=True),
            outcome(),
        ]


def waiting_backend() -> FakeBackend:
    backend = FakeBackend(start=Waiting)
    backend.next_starts.append(FakeSupervisor)
    return backend


def began(service: Running) -> list[Waiting]:
    """The sandboxes of all runs that have begun and whose sandbox is still there."""
    live = [each.supervisor for each in service.backend.live.values()]
    return [each for each in live if isinstance(each, Waiting) and each.programs]


def until_begun(service: Running, count: int = 1) -> None:
    service.until(lambda: len(began(service)) == count)


def let_end(service: Running) -> None:
    for each in began(service):
        service.call(each.finish)


def waiters(service: Running) -> int:
    """Requests that wait for a run with a key."""
    return sum(run._callers for run in service.service.keyed._runs.values())


class Call(threading.Thread):
    """A request whose answer is waited for elsewhere."""

    def __init__(self, service: Running, path: str = "/v1/execute", body: object = BODY, **headers: str) -> None:
        super().__init__()
        self._send = lambda: service.client.post(path, json=body, headers=named(headers))
        self._answers: list[httpx.Response] = []
        self.start()

    def run(self) -> None:
        self._answers.append(self._send())

    @property
    def answer(self) -> httpx.Response:
        self.join(20)
        return self._answers[0]


def named(headers: dict[str, str]) -> dict[str, str]:
    """`key` and `id` for the two headers."""
    names = {"key": "Idempotency-Key", "id": "X-Execution-Id"}
    return {names[name]: value for name, value in headers.items()}


def post(service: Running, path: str = "/v1/execute", body: object = BODY, **headers: str) -> httpx.Response:
    return service.client.post(path, json=body, headers=named(headers))


def said(answer: httpx.Response) -> tuple[int, Any, Any]:
    found = answer.json()
    return answer.status_code, found["code"], found["retryable"]
