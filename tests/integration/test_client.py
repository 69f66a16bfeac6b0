"""The typed client against the service: both of its forms do the same."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from code_interpreter_client import (
    AsyncClient,
    Client,
    Event,
    Output,
    Result,
    Retrying,
    RunFailed,
    ServiceRefused,
    ServiceUnreachable,
)
from tests.fakes.faults import Scripted
from tests.http_service import Running, faulty
from tests.integration.waiting_runs import Call, let_end, until_begun, waiting_backend

WRITES = "import sys\ntext = open('in.txt').read()\nprint(text)\nf = open('out.txt', 'w'); f.write(text * 2); f.close()"

STREAMS = {"stream", "pieces"}


class Both:
    """One call, made by either client; the awaiting one in a loop of its own for each."""

    def __init__(self, kind: type[Client | AsyncClient], service: Running) -> None:
        self.is_async = kind is AsyncClient
        self.slept: list[float] = []
        self.retrying = Retrying(attempts=2)
        self._service = service

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        if not self.is_async:
            with Client(self._service.url, retrying=self.retrying, sleep=self._sleep) as client:
                found = getattr(client, method)(*args, **options)
                return list(found) if method in STREAMS else found
        return self._service.call(self._awaited, method, args, options)

    async def _awaited(self, method: str, args: Any, options: Any) -> Any:
        async with AsyncClient(self._service.url, retrying=self.retrying, sleep=self._nap) as client:
            found = getattr(client, method)(*args, **options)
            return [each async for each in found] if method in STREAMS else await found

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def _nap(self, seconds: float) -> None:
        self._sleep(seconds)


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> type[Client | AsyncClient]:
    found: type[Client | AsyncClient] = request.param
    return found


def test_files_go_in_a_program_runs_and_files_come_out(make_service: Any, kind: Any) -> None:
    call = Both(kind, make_service())
    stored = call("upload", b"ab", "in.txt")
    result: Result = call("execute", WRITES, files={"in.txt": stored.file_id})
    assert (result.stdout, result.exit_code, result.reason) == ("ab\n", 0, "exited")
    (made,) = result.files
    assert call("download", made.file_id) == b"abab"
    call("delete_file", made.file_id)
    with pytest.raises(ServiceRefused, match="not found") as caught:
        call("download", made.file_id)
    assert (caught.value.status, caught.value.code) == (404, "file_not_found")


def test_a_file_comes_in_pieces(make_service: Any, kind: Any) -> None:
    call, data = Both(kind, make_service()), bytes(range(256)) * 4096
    pieces = call("pieces", call("upload", data, "large").file_id)
    assert (b"".join(pieces) == data, len(pieces) > 1) == (True, True)
    with pytest.raises(ServiceRefused, match="not found"):
        call("pieces", "nothing")


def test_a_stream_is_output_and_a_result(make_service: Any, kind: Any) -> None:
    found: list[Event] = Both(kind, make_service())("stream", "print('é')")
    assert found[0] == Output("stdout", "é\n")
    assert isinstance(found[-1], Result)
    assert len(found) == 2


def test_a_key_runs_once_and_an_id_is_the_callers(make_service: Any, kind: Any) -> None:
    call, name = Both(kind, make_service()), str(uuid.uuid4())
    first, second = (call("execute", "print(1)", idempotency_key="k", execution_id=name) for _ in range(2))
    assert first == second
    assert first.execution_id == name


def test_a_busy_service_is_tried_again_after_the_time_that_it_names(make_service: Any, kind: Any) -> None:
    service = make_service(waiting_backend(), pool_size=1, max_in_flight=1, queue=0)
    call, running = Both(kind, service), Call(service)
    until_begun(service)
    for method in ("execute", "stream"):
        with pytest.raises(ServiceRefused) as caught:
            call(method, "print(1)")
        assert (caught.value.status, caught.value.retryable) == (429, True)
    assert len(call.slept) == 2
    assert min(call.slept) >= 1
    let_end(service)
    assert running.answer.status_code == 200


def test_what_is_not_retryable_is_raised_at_once(make_service: Any, kind: Any) -> None:
    call = Both(kind, make_service())
    with pytest.raises(ServiceRefused, match="timeout_ms exceeds"):
        call("execute", "1", timeout_ms=10_000_000)
    assert call.slept == []


def test_a_run_can_be_cancelled_by_another(make_service: Any, kind: Any) -> None:
    service, name = make_service(waiting_backend()), str(uuid.uuid4())
    running = Call(service, "/v1/execute/stream", id=name)
    until_begun(service)
    Both(kind, service)("cancel", name)
    assert "execution_cancelled" in running.answer.text


def test_a_stream_that_fails_raises(make_service: Any, kind: Any) -> None:
    class Dies(Scripted):
        script = ()

        def results(self) -> Any:
            self.channel.end()
            return ()

    with pytest.raises(RunFailed) as caught:
        Both(kind, make_service(faulty(Dies)))("stream", "print(1)")
    assert (caught.value.code, caught.value.retryable) == ("sandbox_lost", False)


def test_nobody_there_is_said_in_a_sentence(make_service: Any, kind: Any) -> None:
    service = make_service()
    call = Both(kind, service)
    service.url = "http://127.0.0.1:1"
    with pytest.raises(ServiceUnreachable):
        call("execute", "print(1)")
