"""`/v1/execute` and what machines ask: every documented status, field and sentence."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from tests.fakes.faults import Scripted
from tests.fakes.supervisor import outcome
from tests.http_service import Running, faulty

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UNKNOWN = str(uuid.uuid4())


# --- what a run gives back ---


def test_a_program_runs_and_its_result_has_every_documented_field(service: Running) -> None:
    answer = service.execute("print('hi')")
    result = answer.json()
    assert answer.status_code == 200
    assert (result["stdout"], result["stderr"], result["exit_code"], result["timed_out"]) == ("hi\n", "", 0, False)
    assert type(result["duration_ms"]) is int
    assert result["files"] == result["files_skipped"] == result["limits_hit"] == []
    assert result["files_skipped_count"] == 0
    assert result["termination"] == {"reason": "exited", "signal": None}
    assert result["truncated"] == {"stdout": False, "stderr": False}
    assert UUID.fullmatch(result["execution_id"])
    assert result["isolation"] in ("full", "reduced", "none")
    assert set(result["timings_ms"]) == {"queue", "lease", "stage", "run", "collect"}


def test_the_phases_are_in_the_server_timing_header(service: Running) -> None:
    phases = service.execute("print(1)").headers["server-timing"]
    assert [part.split(";")[0] for part in phases.split(", ")] == ["queue", "lease", "stage", "run", "collect", "total"]


@pytest.mark.parametrize(
    ("code", "exit_code"), [("raise SystemExit(3)", 3), ("1/0", 1), ("", 0), ("import sys; sys.exit(0)", 0)]
)
def test_the_exit_code_is_the_programs(service: Running, code: str, exit_code: int) -> None:
    assert service.execute(code).json()["exit_code"] == exit_code


def test_stdin_reaches_the_program(service: Running) -> None:
    assert service.execute("print(input() + input())", stdin="a\nb\n").json()["stdout"] == "ab\n"


def test_what_a_program_prints_survives_json(service: Running) -> None:
    odd = '\u2028\u2029\u0085\x00\x1b"\\ é 😀'
    assert service.execute(f"print({odd!r}, end='')").json()["stdout"] == odd


def test_files_go_in_and_changed_ones_come_out(service: Running) -> None:
    file_id = service.upload(b"one", "in.txt")
    code = "text = open('in/a.txt').read()\nf = open('out.txt', 'w'); f.write(text + ' two'); f.close()"
    found = service.execute(code, files=[{"path": "./in//a.txt", "file_id": file_id}])
    (file,) = found.json()["files"]
    assert (file["path"], file["kind"], file["size_bytes"], file["mime_type"]) == ("out.txt", "file", 7, "text/plain")
    assert service.client.get(f"/v1/files/{file['file_id']}").content == b"one two"


def test_files_come_back_from_a_program_that_failed(service: Running) -> None:
    found = service.execute("f = open('half.csv', 'w'); f.write('1,2'); f.close(); raise SystemExit(9)").json()
    assert (found["exit_code"], [each["path"] for each in found["files"]]) == (9, ["half.csv"])


# --- only real programs show this ---


def test_a_program_whose_time_is_up_has_no_exit_code_and_its_files(local: Running) -> None:
    code = "open('before.txt', 'w').write('x')\nprint('before')\nwhile True: pass"
    found = local.execute(code, timeout_ms=2000).json()
    assert (found["exit_code"], found["timed_out"], found["termination"]["reason"]) == (None, True, "timeout")
    assert (found["stdout"], [each["path"] for each in found["files"]]) == ("before\n", ["before.txt"])


def test_a_signal_is_named(local: Running) -> None:
    found = local.execute("import os; os.kill(os.getpid(), 9)").json()
    assert (found["exit_code"], found["termination"]) == (137, {"reason": "signal", "signal": "SIGKILL"})


def test_the_last_expression_is_echoed_unless_it_is_not_wanted(local: Running) -> None:
    assert local.execute("1 + 1").json()["stdout"] == "2\n"
    assert local.execute("1 + 1", last_line_interactive=False).json()["stdout"] == ""


def test_args_and_env_reach_the_program(local: Running) -> None:
    code = "import os, sys; print(sys.argv[1:], os.environ['NAME'])"
    assert local.execute(code, args=["a", "é"], env={"NAME": "=v"}).json()["stdout"] == "['a', 'é'] =v\n"


def test_output_above_the_cap_ends_with_the_marker_within_it(local: Running) -> None:
    found = local.execute("print('x' * 1_500_000)").json()
    assert found["stdout"] == "x" * (1_000_000 - 32) + "\n...[truncated]"
    assert found["truncated"] == {"stdout": True, "stderr": False}


def test_input_without_stdin_ends_at_once(local: Running) -> None:
    assert "EOFError" in local.execute("input()").json()["stderr"]


def test_an_unchanged_input_does_not_come_back(local: Running) -> None:
    inputs = [{"path": name, "file_id": local.upload(b"same")} for name in ("kept.txt", "changed.txt")]
    found = local.execute("open('changed.txt', 'a').write('!')", files=inputs).json()
    assert [each["path"] for each in found["files"]] == ["changed.txt"]


# --- what is refused ---

BAD_BODIES: list[tuple[dict[str, Any], str, list[Any]]] = [
    ({}, "missing", ["body", "code"]),
    ({"code": 5}, "string_type", ["body", "code"]),
    ({"code": None}, "string_type", ["body", "code"]),
    ({"code": "", "stdin": 1}, "string_type", ["body", "stdin"]),
    ({"code": "", "timeout_ms": "5"}, "int_type", ["body", "timeout_ms"]),
    ({"code": "", "timeout_ms": 5.0}, "int_type", ["body", "timeout_ms"]),
    ({"code": "", "timeout_ms": True}, "int_type", ["body", "timeout_ms"]),
    ({"code": "", "timeout_ms": 0}, "greater_than_equal", ["body", "timeout_ms"]),
    ({"code": "", "last_line_interactive": "perhaps"}, "bool_parsing", ["body", "last_line_interactive"]),
    ({"code": "", "files": None}, "list_type", ["body", "files"]),
    ({"code": "", "files": [1]}, "model_attributes_type", ["body", "files", 0]),
    ({"code": "", "files": [{"path": "a"}]}, "missing", ["body", "files", 0, "file_id"]),
    ({"code": "", "env": []}, "dict_type", ["body", "env"]),
    ({"code": "", "env": {"A=B": "c"}}, "value_error", ["body", "env", "A=B"]),
    ({"code": "", "args": ["\0"]}, "value_error", ["body", "args", 0]),
]


@pytest.mark.parametrize(("body", "kind", "loc"), BAD_BODIES)
def test_a_body_of_the_wrong_form_is_answered_as_fastapi_does(
    service: Running, body: Any, kind: str, loc: list
) -> None:
    answer = service.client.post("/v1/execute", json=body)
    (entry,) = answer.json()["detail"]
    assert answer.status_code == 422
    assert set(entry) == {"type", "loc", "msg", "input"}
    assert (entry["type"], entry["loc"]) == (kind, loc)


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"code": "\\ud800"}', b"[" * 100_000, b"NaN"])
def test_malformed_json_is_json_invalid(service: Running, body: bytes) -> None:
    answer = service.client.post("/v1/execute", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "json_invalid"


REFUSED_PATHS = [
    ("/etc/passwd", "File paths must be relative."),
    ("a/../../b", "File paths must not contain '..'."),
    ("", "File path must not be empty."),
    ("./.", "File path must not be empty."),
    ("__main__.py", "File path '__main__.py' is reserved for the execution entrypoint."),
    ("./__main__.py", "File path '__main__.py' is reserved for the execution entrypoint."),
]


@pytest.mark.parametrize("path", ["/v1/execute", "/v1/execute/stream"])
@pytest.mark.parametrize(("given", "detail"), REFUSED_PATHS)
def test_a_path_out_of_place_is_refused_before_anything_runs(
    service: Running, path: str, given: str, detail: str
) -> None:
    files = [{"path": given, "file_id": UNKNOWN}]
    answer = service.client.post(path, json={"code": "", "files": files})
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


@pytest.mark.parametrize("path", ["/v1/execute", "/v1/execute/stream"])
@pytest.mark.parametrize("file_id", [UNKNOWN, "../../etc/passwd", "/etc/passwd", "", "a" * 5000])
def test_a_file_that_is_not_there_is_404_before_anything_runs(service: Running, path: str, file_id: str) -> None:
    answer = service.client.post(path, json={"code": "", "files": [{"path": "y", "file_id": file_id}]})
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        f"File with ID '{file_id[:256]}' not found for path 'y'.",
    )


@pytest.mark.parametrize("path", ["/v1/execute", "/v1/execute/stream"])
def test_too_long_a_timeout_is_refused(service: Running, path: str) -> None:
    answer = service.client.post(path, json={"code": "", "timeout_ms": 60_001})
    assert (answer.status_code, answer.json()["detail"]) == (422, "timeout_ms exceeds maximum of 60000 ms")


def test_unknown_keys_are_ignored(service: Running) -> None:
    assert service.execute("print(1)", session="x", capture_display=True).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_415(service: Running, kind: str) -> None:
    answer = service.client.post("/v1/execute", content=b'{"code": ""}', headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "wrong_content_type")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/files", "GET, HEAD, POST"),
        ("PUT", "/v1/files/x", "DELETE, GET, HEAD"),
        ("GET", "/v1/execute", "POST"),
    ],
)
def test_405_names_every_method_of_the_path(service: Running, method: str, path: str, allowed: str) -> None:
    assert service.client.request(method, path).headers["allow"] == allowed


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/execute", 405), ("GET", "/nothing", 404)])
def test_what_is_no_path_or_not_that_method_says_so_in_json(
    service: Running, method: str, path: str, status: int
) -> None:
    answer = service.client.request(method, path)
    assert (answer.status_code, set(answer.json())) == (status, {"detail", "code", "retryable"})


def test_request_ids_are_echoed_or_made(service: Running) -> None:
    assert service.client.get("/health", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert service.client.get("/health", headers={"X-Request-Id": "x" * 200}).headers["x-request-id"] != "x" * 200


# --- what machines ask ---


def test_health_has_its_documented_fields(service: Running) -> None:
    body = service.client.get("/health").json()
    assert (body["status"], body["message"], body["version"]) == ("ok", None, "0.4.4")
    assert {"service_version", "executor_backend", "network_isolation", "isolation", "pool"} <= set(body)


def test_ready_once_a_sandbox_has_been_warm_and_not_while_draining(make_service: Any) -> None:
    found = make_service()
    assert found.client.get("/ready").status_code == 200
    found.call(found.service.drain)
    answer = found.client.get("/ready")
    assert (answer.status_code, answer.json()["detail"]) == (503, "Shutting down.")
    refused = found.execute("print(1)")
    assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (503, "pool_closed", True)


def test_metrics_count_what_happened(make_service: Any) -> None:
    found = make_service()
    found.execute("print(1)")
    text = found.client.get("/metrics").text
    assert 'code_interpreter_executions_completed_total{operation="execute",outcome="ok"} 1.0' in text
    assert 'code_interpreter_pool_slots{state="ready"}' in text


def test_the_documents_are_there(service: Running) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/v1/execute",
        "/v1/execute/stream",
        "/v1/executions/{execution_id}",
        "/v1/sessions",
        "/v1/sessions/{session_id}",
        "/v1/sessions/{session_id}/bash",
        "/v1/files",
        "/v1/files/{file_id}",
        "/health",
        "/ready",
        "/metrics",
    }
    assert "/v1/execute/stream" in service.client.get("/docs").text


def test_what_a_sandbox_reports_is_passed_on(make_service: Any) -> None:
    class Troubled(Scripted):
        script = (
            outcome(
                exit_code=137,
                reason="oom",
                signal="SIGKILL",
                limits_hit=["disk"],
                files_skipped=[["big.bin", "too_large"]],
                files_skipped_count=30,
            ),
        )

    result = make_service(faulty(Troubled)).execute("").json()
    assert result["termination"] == {"reason": "oom", "signal": "SIGKILL"}
    assert (result["limits_hit"], result["files_skipped"]) == (["disk"], [{"path": "big.bin", "reason": "too_large"}])
    assert result["files_skipped_count"] == 30
