"""`/v1/execute/stream`: what comes, in which order, and what comes in place of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from broker import stream
from sandbox_runtime import wire
from tests.fakes.faults import Scripted
from tests.fakes.supervisor import FakeSupervisor, outcome
from tests.http_service import Running, events, faulty

PATH = "/v1/execute/stream"


def run(service: Running, code: str, **fields: Any) -> list[tuple[str, Any]]:
    with service.client.stream("POST", PATH, json={"code": code, **fields}) as answer:
        assert answer.status_code == 200
        return events(answer)


def text_of(found: list[tuple[str, Any]], name: str = "stdout") -> str:
    return "".join(data["data"] for kind, data in found if kind == "output" and data["stream"] == name)


def test_output_comes_then_one_result(service: Running) -> None:
    found = run(service, "print('a'); print('b')")
    assert text_of(found) == "a\nb\n"
    assert [kind for kind, _ in found if kind != "output"] == ["result"]
    kind, result = found[-1]
    assert (kind, result["exit_code"], result["timed_out"], result["files"]) == ("result", 0, False, [])
    assert "stdout" not in result


def test_the_headers_are_those_of_an_event_stream(service: Running) -> None:
    with service.client.stream("POST", PATH, json={"code": ""}) as answer:
        headers = answer.headers
        first = next(answer.iter_raw())
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert first.startswith(b": ping\n\n")


def test_the_body_is_ascii_so_that_no_client_sees_lines_where_there_are_none(service: Running) -> None:
    odd = "\u2028\u2029\u0085é😀"
    with service.client.stream("POST", PATH, json={"code": f"print({odd!r})"}) as answer:
        raw = answer.read()
    assert raw.isascii()
    assert text_of(run(service, f"print({odd!r})")) == odd + "\n"


def test_files_of_a_stream_can_be_downloaded(service: Running) -> None:
    _, result = run(service, "f = open('plot.png', 'w'); f.write('png'); f.close()")[-1]
    (file,) = result["files"]
    assert (file["path"], file["mime_type"]) == ("plot.png", "image/png")
    assert service.client.get(f"/v1/files/{file['file_id']}").content == b"png"


class Says(Scripted):
    """Characters cut where the sandbox pleases."""

    script = (
        wire.Output(stream="stdout", data="é".encode()[:1]),
        wire.Output(stream="stderr", data=b"err"),
        wire.Output(stream="stdout", data="é".encode()[1:] + b"\xff"),
        wire.Output(stream="stdout", data="😀".encode()[:3]),
        outcome(),
    )


def test_characters_cut_between_pieces_are_whole_and_broken_ones_are_shown(make_service: Any) -> None:
    found = run(make_service(faulty(Says)), "")
    assert text_of(found) == "é\ufffd\ufffd"
    assert text_of(found, "stderr") == "err"


class CutByTheLimit(Scripted):
    script = (wire.Output(stream="stdout", data=b"ab\xe2\x82"), outcome(stdout_truncated=True))


def test_half_a_character_at_the_cut_is_left_out(make_service: Any) -> None:
    found = run(make_service(faulty(CutByTheLimit)), "")
    assert text_of(found) == "ab"
    assert found[-1][1]["truncated"] == {"stdout": True, "stderr": False}


class Gated(FakeSupervisor):
    """Says its first line, and no more until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_is_open = False

    def results(self) -> Iterable[wire.Message]:
        self.say(wire.Output(stream="stdout", data=b"first\n"), run=self.of_run)
        return [wire.Output(stream="stdout", data=b"second\n"), outcome()]

    def run(self, run: str, message: wire.Run) -> None:
        self.of_run = run
        super().run(run, message)


def gated_sandbox(service: Running) -> Gated:
    """The one that runs now."""
    found: list[Gated] = []

    def look() -> bool:
        live = [each.supervisor for each in service.backend.live.values()]
        found[:] = [each for each in live if isinstance(each, Gated) and each.programs]
        return bool(found)

    service.until(look)
    return found[0]


def test_output_comes_while_the_program_runs(make_service: Any) -> None:
    service = make_service(faulty(Gated))
    with service.client.stream("POST", PATH, json={"code": ""}) as answer:
        pieces = answer.iter_text()
        seen = ""
        while "first" not in seen:
            seen += next(pieces)
        assert "second" not in seen
        service.call(gated_sandbox(service).finish)
        assert "second" in "".join(pieces)


def test_a_silent_program_is_kept_alive_by_comments(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    service = make_service(faulty(Gated))
    with service.client.stream("POST", PATH, json={"code": ""}) as answer:
        pieces = answer.iter_text()
        seen = ""
        while seen.count(": ping\n\n") < 4:
            seen += next(pieces)
        service.call(gated_sandbox(service).finish)
        assert "event: result" in "".join(pieces)


def test_pings_come_more_often_than_the_contract_asks() -> None:
    assert stream.PING_SECONDS <= 15


class Dies(Scripted):
    script = (wire.Output(stream="stdout", data=b"so far\n"), wire.File(path="a", data=b"x", last=True))

    def results(self) -> Iterable[wire.Message]:
        yield from self.script
        self.channel.end()


class Lies(FakeSupervisor):
    def results(self) -> Iterable[wire.Message]:
        self.say(wire.Output(stream="stdout", data=b"x"), run="another")
        return []


@pytest.mark.parametrize(("kind", "code"), [(Dies, "sandbox_lost"), (Lies, "sandbox_misbehaved")])
def test_what_befalls_a_sandbox_is_502_or_an_error_event_and_never_retryable(
    make_service: Any, kind: Any, code: str
) -> None:
    service = make_service(faulty(kind))
    batch = service.execute("print(1)")
    assert (batch.status_code, batch.json()["code"], batch.json()["retryable"]) == (502, code, False)
    *_, (last, data) = run(service, "print(1)")
    assert (last, data["code"], data["retryable"]) == ("error", code, False)
    assert type(data["message"]) is str
    service.until_idle()
    assert service.client.get("/v1/files").json() == {"files": []}


def test_a_full_queue_is_a_status_with_retry_after_before_any_header(make_service: Any) -> None:
    service = make_service(faulty(Gated), pool_size=1, max_in_flight=1, queue=0)
    with service.client.stream("POST", PATH, json={"code": ""}):
        running = gated_sandbox(service)
        for path in (PATH, "/v1/execute"):
            answer = service.client.post(path, json={"code": ""})
            assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (
                429,
                "pool_saturated",
                True,
            )
            assert int(answer.headers["retry-after"]) >= 1
        service.call(running.finish)


def test_a_wait_that_ends_is_503_with_retry_after(make_service: Any) -> None:
    service = make_service(faulty(Gated), pool_size=1, max_in_flight=1, execution_queue_timeout_sec=0.3)
    with service.client.stream("POST", PATH, json={"code": ""}):
        running = gated_sandbox(service)
        for path in (PATH, "/v1/execute"):
            answer = service.client.post(path, json={"code": ""})
            assert (answer.status_code, answer.json()["retryable"]) in [(503, True), (429, True)]
            assert int(answer.headers["retry-after"]) >= 1
        service.call(running.finish)


def test_a_queued_run_gets_its_sandbox(make_service: Any) -> None:
    service = make_service(faulty(Gated), pool_size=1, max_in_flight=1)
    answers: list[httpx.Response] = []
    queued = threading.Thread(target=lambda: answers.append(service.client.post(PATH, json={"code": ""})))
    with service.client.stream("POST", PATH, json={"code": ""}):
        first = gated_sandbox(service)
        queued.start()
        service.until(lambda: service.service.pool.snapshot().waiting == 1)
        service.call(first.finish)
    service.until(lambda: first not in [each.supervisor for each in service.backend.live.values()])
    service.call(gated_sandbox(service).finish)
    queued.join(10)
    assert answers[0].text.count("event: result") == 1
    assert json.loads(answers[0].text.split("data: ")[-1])["exit_code"] == 0
