"""`session_id` of `/v1/execute` and its stream: with real sandboxes, as clients see it."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from code_interpreter_client import AsyncClient, Client, Result
from tests.http_service import Running, events, running

BATCH, STREAM = "/v1/execute", "/v1/execute/stream"
PATHS = pytest.mark.parametrize("path", [BATCH, STREAM])


SETTINGS: dict[str, Any] = {"max_sessions": 3, "session_workspace_mb": 64, "execution_queue_timeout_sec": 3.0}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("sessions"), "local", **SETTINGS) as found:
        yield found


class Held:
    """A session, and calls of it."""

    def __init__(self, service: Running) -> None:
        answer = service.client.post("/v1/sessions", json={})
        assert answer.status_code == 201, answer.text
        self.service, self.id = service, answer.json()["session_id"]

    def ask(self, code: str, path: str = BATCH, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"code": code, "session_id": self.id, **fields}
        return self.service.client.post(path, json=body, headers=headers)

    def result(self, code: str, path: str = BATCH, **fields: Any) -> Any:
        """Of either path, in the form of the batch."""
        answer = self.ask(code, path, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json() if path == BATCH else gathered(answer)

    def bash(self, cmd: str) -> str:
        answer = self.service.client.post(f"/v1/sessions/{self.id}/bash", json={"cmd": cmd})
        assert answer.status_code == 200, answer.text
        stdout: str = answer.json()["stdout"]
        return stdout

    def until_begun(self) -> None:
        """A program's turn has come."""
        active = self.service.service.metrics.active
        self.service.until(lambda: any(sample.value for each in active.collect() for sample in each.samples))

    def close(self) -> httpx.Response:
        return self.service.client.delete(f"/v1/sessions/{self.id}")


def gathered(answer: httpx.Response) -> dict[str, Any]:
    *outputs, (name, result) = events(answer)
    assert name == "result", result
    for stream in ("stdout", "stderr"):
        result[stream] = "".join(data["data"] for _, data in outputs if data["stream"] == stream)
    found: dict[str, Any] = result
    return found


@pytest.fixture
def held(service: Running) -> Iterator[Held]:
    held = Held(service)
    yield held
    held.close()


@PATHS
def test_a_program_and_commands_share_what_the_session_holds(held: Held, path: str):
    held.bash("echo of-bash > file")
    result = held.result("print(open('file').read(), end=''); _ = open('made', 'w').write('1')", path)
    assert (result["stdout"], result["exit_code"], result["timed_out"]) == ("of-bash\n", 0, False)
    assert held.bash("cat made") == "1"


@PATHS
def test_files_go_in_by_id_and_come_out_by_id(held: Held, path: str):
    files = [{"path": "in/data.csv", "file_id": held.service.upload(b"1,2")}]
    code = "text = open('in/data.csv').read(); open('out.csv', 'w').write(text * 2)"
    (made,) = held.result(code, path, files=files)["files"]
    assert (made["path"], made["size_bytes"], made["mime_type"]) == ("out.csv", 6, "text/csv")
    assert held.service.client.get(f"/v1/files/{made['file_id']}").content == b"1,21,2"
    assert held.bash("cat in/data.csv out.csv") == "1,21,21,2"


@PATHS
def test_its_answer_has_all_that_a_run_of_its_own_has(held: Held, path: str):
    alone = held.service.client.post(path, json={"code": "1"})
    alone_result = alone.json() if path == BATCH else gathered(alone)
    ours = held.result("1", path)
    assert set(ours) == set(alone_result)
    assert (ours["stdout"], ours["isolation"], ours["termination"]) == ("1\n", alone_result["isolation"], ALONE)
    assert ours["timings_ms"]["lease"] == 0
    assert ours["timings_ms"]["run"] > 0


ALONE = {"reason": "exited", "signal": None}


def test_input_arguments_and_environment_are_its_own(held: Held):
    code = "import os, sys; print(input(), sys.argv[1:], os.environ['NAME'])"
    result = held.result(code, stdin="typed", args=["a"], env={"NAME": "value"}, last_line_interactive=False)
    assert result["stdout"] == "typed ['a'] value\n"


@PATHS
def test_a_timeout_ends_the_program_and_not_the_session(held: Held, path: str):
    held.bash("sleep 1000 & echo $! > before")
    result = held.result("open('made', 'w').close(); import time; time.sleep(60)", path, timeout_ms=3000)
    assert (result["exit_code"], result["timed_out"], [each["path"] for each in result["files"]]) == (
        None,
        True,
        ["made"],
    )
    assert held.bash("kill -0 $(cat before) && echo alive") == "alive\n"


@PATHS
@pytest.mark.parametrize("session_id", ["none", "", str(uuid.uuid4()), "x" * 300])
def test_what_is_no_session_is_not_found(service: Running, path: str, session_id: str):
    answer = service.client.post(path, json={"code": "1", "session_id": session_id})
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    assert answer.json()["detail"] == f"Session '{session_id[:256]}' not found"


@PATHS
def test_one_that_was_closed_is_not_found(held: Held, path: str):
    held.close()
    assert held.ask("1", path).status_code == 404


@pytest.mark.parametrize("session_id", [5, ["x"], True])
def test_what_is_no_text_names_no_session(service: Running, session_id: Any):
    answer = service.client.post(BATCH, json={"code": "1", "session_id": session_id})
    (entry,) = answer.json()["detail"]
    assert (answer.status_code, entry["type"], entry["loc"]) == (422, "string_type", ["body", "session_id"])


def test_null_names_none(service: Running):
    answer = service.client.post(BATCH, json={"code": "import os; os.listdir()", "session_id": None})
    assert answer.json()["stdout"] == "['__main__.py']\n"


@PATHS
def test_an_input_without_a_place_is_refused_and_the_session_goes_on(held: Held, path: str):
    held.bash("ln -s /tmp link")
    files = [{"path": "link/data", "file_id": held.service.upload(b"x")}]
    answer = held.ask("open('ran', 'w')", path, files=files)
    # The stream has begun by then: the session's turn had come.
    said = answer.json() if path == BATCH else events(answer)[-1][1]
    assert (answer.status_code, said["code"]) == ((422 if path == BATCH else 200), "inputs_refused")
    assert "link/data has no place" in said["detail" if path == BATCH else "message"]
    assert held.bash("ls") == "link\n"


@PATHS
def test_a_turn_that_does_not_come_in_time_is_told_as_a_status(held: Held, path: str):
    first = threading.Thread(target=held.result, args=("import time; time.sleep(6)",), kwargs={"timeout_ms": 20_000})
    first.start()
    held.until_begun()
    refused = held.ask("open('ran', 'w')", path)
    assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (503, "pool_timeout", True)
    assert int(refused.headers["Retry-After"]) >= 1
    first.join()
    assert held.bash("ls") == "__main__.py\n"


@PATHS
def test_a_session_that_dies_under_a_program_is_a_lost_sandbox(held: Held, path: str):
    sandbox = held.service.backend._live
    (ours,) = [each for each in sandbox if each.name.startswith("session-")]
    answers: list[httpx.Response] = []
    call = threading.Thread(target=lambda: answers.append(held.ask("import time; time.sleep(60)", path)))
    call.start()
    held.until_begun()
    signal.pidfd_send_signal(ours._handle, signal.SIGKILL)
    call.join()
    said = answers[0].json() if path == BATCH else events(answers[0])[-1][1]
    assert (answers[0].status_code, said["code"], said["retryable"]) == (
        (502 if path == BATCH else 200),
        "sandbox_lost",
        False,
    )
    held.service.until(lambda: not len(held.service.service.sessions))
    assert held.ask("1", path).status_code == 404


# --- leaving, cancelling, asking again ---


@PATHS
def test_a_caller_who_leaves_ends_the_program_and_not_the_session(held: Held, path: str):
    body = {
        "code": "import os; os.system('sleep 1003'); open('made', 'w')",
        "session_id": held.id,
        "timeout_ms": 60_000,
    }
    with (
        pytest.raises(httpx.ReadTimeout),
        held.service.client.stream("POST", path, json=body, timeout=1.0) as answer,
    ):
        for _ in answer.iter_bytes():
            pass
    assert held.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 100[3]'; ls") == "0\n__main__.py\n"


def test_it_is_cancelled_by_its_id_and_the_session_goes_on(held: Held):
    name, answers = str(uuid.uuid4()), []
    code = "open('begun', 'w').close(); import time; time.sleep(60)"
    headers = {"X-Execution-Id": name}
    call = threading.Thread(target=lambda: answers.append(held.ask(code, headers=headers, timeout_ms=60_000)))
    call.start()
    held.service.until(lambda: len(held.service.service.executions) == 1)
    assert held.service.client.delete(f"/v1/executions/{name}").status_code == 204
    call.join()
    assert (answers[0].status_code, answers[0].json()["code"]) == (409, "execution_cancelled")
    assert held.bash("echo on") == "on\n"


def test_a_key_covers_the_session(held: Held):
    code = "open('log', 'a').write('x')"
    first, again = (held.ask(code, headers={"Idempotency-Key": held.id}) for _ in range(2))
    assert (first.status_code, first.content) == (200, again.content)
    assert held.bash("cat log") == "x"
    other = Held(held.service)
    for fields in ({"session_id": other.id}, {"session_id": None}):
        refused = held.ask(code, headers={"Idempotency-Key": held.id}, **fields)
        assert (refused.status_code, refused.json()["code"]) == (422, "key_reused")
    assert other.bash("ls") == ""
    other.close()


def test_a_key_has_its_outcome_when_the_session_is_gone(held: Held):
    headers = {"Idempotency-Key": f"gone-{held.id}"}
    first = held.ask("print('ran')", headers=headers)
    held.close()
    assert held.ask("print('ran')", headers=headers).content == first.content


def test_a_key_of_a_session_that_never_was_is_free_for_the_next(held: Held):
    headers = {"Idempotency-Key": f"free-{held.id}"}
    body = {"code": "print(1)", "session_id": "none"}
    assert held.service.client.post(BATCH, json=body, headers=headers).status_code == 404
    assert held.ask("print(2)", headers=headers).json()["stdout"] == "2\n"


def test_the_clients_name_a_session(held: Held):
    with Client(held.service.url) as client:
        assert client.execute("print(1)", session_id=held.id).stdout == "1\n"
        *_, last = client.stream("open('made', 'w').write('x')", session_id=held.id)
        assert isinstance(last, Result)
        assert [each.path for each in last.files] == ["made"]


async def test_the_client_that_awaits_does_too(service: Running):
    async with AsyncClient(service.url) as client:
        session = await client.open_session()
        assert (await client.execute("print(1)", session_id=session.session_id)).stdout == "1\n"
        await client.close_session(session.session_id)
