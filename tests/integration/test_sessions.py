"""Sessions over HTTP, with real sandboxes: what a coding agent does with one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from code_interpreter_client import AsyncClient, Client, ServiceRefused
from tests.http_service import Running, running
from tests.repository import repository


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("sessions")
    with running(folder, "local", max_sessions=3, session_workspace_mb=64) as found:
        yield found


class Agent:
    """A client with a session."""

    def __init__(self, service: Running, session_id: str) -> None:
        self.service, self.session_id = service, session_id

    def ask(self, cmd: str, **fields: Any) -> httpx.Response:
        return self.service.client.post(f"/v1/sessions/{self.session_id}/bash", json={"cmd": cmd, **fields})

    def bash(self, cmd: str, **fields: Any) -> str:
        answer = self.ask(cmd, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["exit_code"] == 0, answer.text
        stdout: str = answer.json()["stdout"]
        return stdout

    def close(self) -> httpx.Response:
        return self.service.client.delete(f"/v1/sessions/{self.session_id}")


def opened(service: Running, **fields: Any) -> Agent:
    answer = service.client.post("/v1/sessions", json=fields)
    assert answer.status_code == 201, answer.text
    return Agent(service, answer.json()["session_id"])


@pytest.fixture
def agent(service: Running) -> Iterator[Agent]:
    agent = opened(service)
    yield agent
    agent.close()


def test_a_coding_agent_unpacks_a_repository_edits_it_and_runs_its_tests(service: Running):
    file_id = service.upload(repository(), "repo.tar.gz")
    agent = opened(service, ttl_seconds=600, files=[{"path": "repo.tar.gz", "file_id": file_id}])
    listing = agent.bash("tar -xzf repo.tar.gz --strip-components=1 && rm repo.tar.gz && ls")
    assert listing.split() == ["adding.py", "test_adding.py"]
    failing = agent.ask("python3 -m unittest -q").json()
    assert (failing["exit_code"], "-1 != 3" in failing["stderr"]) == (1, True)
    agent.bash("sed -i 's/a - b/a + b/' adding.py")
    assert agent.bash("python3 -m unittest -q 2>&1 | tail -1") == "OK\n"
    assert agent.close().status_code == 204


def test_what_is_told_when_it_opens(service: Running):
    before = time.time()
    answer = service.client.post("/v1/sessions", json={"ttl_seconds": 60})
    assert (answer.status_code, set(answer.json())) == (201, {"session_id", "expires_at"})
    assert before + 60 <= answer.json()["expires_at"] <= time.time() + 60
    Agent(service, answer.json()["session_id"]).close()


def test_what_is_told_of_a_call(agent: Agent):
    answer = agent.ask("echo out; echo err >&2; exit 7").json()
    assert answer.pop("duration_ms") >= 0
    assert answer == {
        "stdout": "out\n",
        "stderr": "err\n",
        "exit_code": 7,
        "timed_out": False,
        "termination": {"reason": "exited", "signal": None},
        "limits_hit": [],
        "truncated": {"stdout": False, "stderr": False},
    }


def test_a_timeout_keeps_the_session(agent: Agent):
    agent.bash("echo kept > file")
    answer = agent.ask("sleep 30", timeout_ms=200).json()
    assert (answer["exit_code"], answer["timed_out"]) == (None, True)
    assert agent.bash("cat file") == "kept\n"


def test_calls_at_once_wait_for_each_other(agent: Agent):
    agent.bash("echo 0 > count")
    step = "n=$(cat count); sleep 0.05; echo $((n + 1)) > count"
    threads = [threading.Thread(target=agent.bash, args=(step,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agent.bash("cat count") == "4\n"


def test_a_call_that_others_leave_no_time_is_refused_and_harms_none(service: Running):
    agent = opened(service)
    first = threading.Thread(target=agent.bash, args=("touch begun; sleep 11",), kwargs={"timeout_ms": 20_000})
    first.start()
    while (refused := agent.ask("test -e begun && touch never", timeout_ms=100)).status_code == 200:
        pass  # it came before the first one
    assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (503, "pool_timeout", True)
    first.join()
    assert agent.bash("ls") == "begun\n"
    agent.close()


def test_an_opener_who_goes_away_leaves_no_session(service: Running):
    with pytest.raises(httpx.ReadTimeout):
        service.client.post("/v1/sessions", json={}, timeout=0.005)
    service.until(lambda: not len(service.service.sessions) and not service.service.active)


def test_a_caller_who_goes_away_ends_the_call_and_not_the_session(agent: Agent):
    agent.bash("echo kept > file")
    call = {"cmd": "sleep 30; touch made"}
    with pytest.raises(httpx.ReadTimeout):
        agent.service.client.post(f"/v1/sessions/{agent.session_id}/bash", json=call, timeout=0.3)
    assert agent.bash("cat file; ls") == "kept\nfile\n"


def test_a_server_of_one_call_is_there_for_the_next(agent: Agent):
    agent.bash("echo hello > index.html; python3 -m http.server --bind 127.0.0.1 8080 > log 2>&1 &")
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/').read().decode(), end='')"
    wait = "until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; do sleep 0.05; done"
    assert agent.bash(f'{wait}; python3 -c "{ask}"') == "hello\n"


def test_more_than_may_be_open_are_refused_until_one_ends(service: Running):
    agents = [opened(service) for _ in range(3)]
    refused = service.client.post("/v1/sessions", json={})
    assert (refused.status_code, refused.json()["code"]) == (429, "sessions_full")
    assert 1 <= int(refused.headers["Retry-After"]) <= 900
    agents.pop().close()
    agents.append(opened(service))
    for agent in agents:
        agent.close()


def test_runs_go_on_while_all_sessions_are_taken(service: Running):
    agents = [opened(service) for _ in range(3)]
    assert service.execute("print(1)").json()["stdout"] == "1\n"
    for agent in agents:
        agent.close()


def test_its_time_ends_it(service: Running):
    agent = opened(service, ttl_seconds=1)
    service.until(lambda: not len(service.service.sessions))
    answer = agent.ask("true")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"Session '{agent.session_id}' not found")


def of_sessions(service: Running) -> list[Any]:
    return [each for each in service.backend._live if each.name.startswith("session-")]


def test_one_whose_sandbox_is_gone_takes_no_place(service: Running):
    agent = opened(service)
    service.until(lambda: len(of_sessions(service)) == 1)  # those of other tests may be on their way out
    signal.pidfd_send_signal(of_sessions(service)[0]._handle, signal.SIGKILL)
    service.until(lambda: not len(service.service.sessions))
    assert agent.ask("true").status_code == 404


def test_one_that_is_closed_is_not_found(agent: Agent):
    assert agent.close().status_code == 204
    assert agent.close().status_code == 404
    assert agent.ask("true").status_code == 404


@pytest.mark.parametrize("session_id", ["none", "x" * 1000, "%00", "a%2Fb"])
def test_what_is_no_session_is_not_found(service: Running, session_id: str):
    answer = service.client.post(f"/v1/sessions/{session_id}/bash", json={"cmd": "true"})
    assert answer.status_code == 404


def test_a_file_that_is_not_there_is_named(service: Running):
    answer = service.client.post("/v1/sessions", json={"files": [{"path": "a", "file_id": "none"}]})
    assert (answer.status_code, answer.json()["detail"]) == (404, "File with ID 'none' not found for path 'a'.")


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ({"ttl_seconds": 0}, "greater_than_equal", "ttl_seconds"),
        ({"ttl_seconds": 86_401}, "less_than_equal", "ttl_seconds"),
        ({"ttl_seconds": "5"}, "int_type", "ttl_seconds"),
        ({"files": None}, "list_type", "files"),
    ],
)
def test_a_session_that_cannot_be_is_refused(service: Running, body: Any, kind: str, field: str):
    answer = service.client.post("/v1/sessions", json=body)
    (entry,) = answer.json()["detail"]
    assert (answer.status_code, entry["type"], entry["loc"]) == (422, kind, ["body", field])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cmd": 5},
        {"cmd": "a\0b"},
        {"cmd": "x" * 131_072},
        {"cmd": "", "timeout_ms": 0},
        {"cmd": "", "timeout_ms": 60_001},
    ],
)
def test_a_call_that_cannot_be_is_refused(agent: Agent, body: Any):
    answer = agent.service.client.post(f"/v1/sessions/{agent.session_id}/bash", json=body)
    assert answer.status_code == 422
    assert agent.bash("echo on") == "on\n"


def test_the_workspace_is_as_large_as_the_setting_says(agent: Agent):
    assert agent.bash("head -c 60M /dev/zero > big && stat -c %s big") == f"{60 << 20}\n"
    assert agent.ask("head -c 60M /dev/zero > bigger").json()["limits_hit"] == ["disk"]


def test_files_that_do_not_fit_are_refused(service: Running):
    file_id = service.upload(bytes(70 << 20))
    answer = service.client.post("/v1/sessions", json={"files": [{"path": "big", "file_id": file_id}]})
    assert (answer.status_code, "big" in answer.json()["detail"]) == (422, True)
    service.until(lambda: not len(service.service.sessions))


def test_nothing_of_one_is_left_for_the_next(service: Running):
    agent = opened(service)
    agent.bash("sleep 1000 & touch file")
    agent.close()
    other = opened(service)
    assert other.bash("ls; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 1000' || true") == "0\n"
    other.close()


def test_inputs_of_a_run_that_do_not_fit_are_refused_too(service: Running):
    file_id = service.upload(bytes(99 << 20))
    files = [{"path": "big", "file_id": file_id}, {"path": "bigger", "file_id": file_id}]
    answer = service.execute("print(1)", files=files)
    assert (answer.status_code, answer.json()["code"]) == (422, "inputs_refused")


def test_without_sessions_the_api_level_is_the_one_before_them(tmp_path: Path):
    with running(tmp_path, "fake", max_sessions=0) as found:
        assert found.client.get("/health").json()["version"] == "0.3.3"
        refused = found.client.post("/v1/sessions", json={})
    assert (refused.status_code, refused.json()["retryable"], "Retry-After" in refused.headers) == (403, False, False)


def test_the_client_has_sessions_too(service: Running):
    with Client(service.url) as client:
        stored = client.upload(b"data", "a.txt")
        assert stored.file_id in [each.file_id for each in client.files()]
        session = client.open_session(ttl_seconds=60, files={"in/a.txt": stored.file_id})
        assert client.bash(session.session_id, "cat in/a.txt").stdout == "data"
        late = client.bash(session.session_id, "sleep 9", timeout_ms=100)
        assert (late.exit_code, late.timed_out) == (None, True)
        client.close_session(session.session_id)
        with pytest.raises(ServiceRefused, match="not found"):
            client.bash(session.session_id, "true")


async def test_the_client_that_awaits_has_sessions_too(service: Running):
    async with AsyncClient(service.url) as client:
        session = await client.open_session()
        assert (await client.bash(session.session_id, "echo on")).stdout == "on\n"
        await client.close_session(session.session_id)
        assert isinstance(await client.files(), list)
