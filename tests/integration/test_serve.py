"""`code-interpreter serve` as a process: how it starts, how it refuses, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.source_tree import ROOT

COMMAND = [sys.executable, "-m", "broker", "serve"]


def environment(folder: Path, **changed: str) -> dict[str, str]:
    quiet = {"PORT": "0", "FILE_STORAGE_DIR": str(folder / "files"), "BROKER_PRELOAD": "none", "BROKER_POOL_SIZE": "1"}
    return {**os.environ, **quiet, **changed}


@contextmanager
def serving(folder: Path, **changed: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its address, and the curl line that it printed."""
    with (folder / "log").open("w") as log:
        found = subprocess.Popen(
            COMMAND, cwd=ROOT, env=environment(folder, **changed), stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert found.stdout is not None
    try:
        url = re.search(r"http://\S+", found.stdout.readline())
        assert url, (folder / "log").read_text()
        assert "Ready" in found.stdout.readline()
        yield found, url[0], found.stdout.readline().strip()
    finally:
        found.kill()
        found.wait()
        found.stdout.close()


def refusal(folder: Path, **changed: str) -> tuple[int, str]:
    ended = subprocess.run(
        COMMAND, cwd=ROOT, env=environment(folder, **changed), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


@pytest.mark.slow
def test_it_prints_a_line_that_works_and_logs_json_without_the_program(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, _, line):
        answer = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
        assert json.loads(answer.stdout)["stdout"] == "42\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    log = (tmp_path / "log").read_text()
    events = [json.loads(line) for line in log.splitlines()]
    (event,) = [each for each in events if each["event"] == "request"]
    assert (event["route"], event["status"], bool(event["request_id"])) == ("execute", 200, True)
    assert "6 * 7" not in log
    assert "42" not in [str(value) for each in events for value in each.values()]


@pytest.mark.slow
def test_on_sigterm_what_runs_may_end_and_nothing_new_begins(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, url, _):
        answers: list[httpx.Response] = []
        body = {"code": "import time; time.sleep(1.5); print('done')", "timeout_ms": 10_000}
        running = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/execute", json=body, timeout=20, trust_env=False))
        )
        running.start()
        with httpx.Client(base_url=url, trust_env=False) as client:
            while not client.get("/health").json()["pool"]["in_flight"]:
                time.sleep(0.01)
            server.send_signal(signal.SIGTERM)
            while client.get("/ready").status_code == 200:
                time.sleep(0.01)
            assert client.post("/v1/execute", json={"code": ""}).status_code == 503
            assert client.get("/health").status_code == 200
        running.join(20)
        assert answers[0].json()["stdout"] == "done\n"
        assert server.wait(10) == 0


@pytest.mark.slow
def test_who_still_asks_after_sigterm_is_served_and_sent_elsewhere(tmp_path: Path) -> None:
    with (
        serving(tmp_path, BROKER_LEAVE_SECONDS="3") as (server, url, _),
        httpx.Client(base_url=url, trust_env=False, timeout=20) as client,
    ):
        server.send_signal(signal.SIGTERM)
        while client.get("/ready").status_code == 200:
            pass
        answer = client.post("/v1/execute", json={"code": "print(6 * 7)"})
        assert (answer.status_code, answer.json()["stdout"]) == (200, "42\n")
        assert answer.headers["connection"] == "close"
        assert server.wait(10) == 0


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_the_grace_ends_and_a_second_signal_ends_it_at_once(tmp_path: Path, signals: int) -> None:
    grace = "0.5" if signals == 1 else "60"
    body = {"code": "while True: pass", "timeout_ms": 60_000}
    with (
        serving(tmp_path, BROKER_GRACE_SECONDS=grace) as (server, url, _),
        httpx.Client(base_url=url, trust_env=False, timeout=20) as client,
        client.stream("POST", "/v1/execute/stream", json=body),
    ):
        for _ in range(signals):
            server.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert server.wait(10) == 0


REFUSALS = [
    ({"BROKER_POOL_SIZ": "4"}, ["BROKER_POOL_SIZ", "BROKER_POOL_SIZE"]),
    ({"BROKER_MAX_RUNS_PER_SANDBOX": "2"}, ["BROKER_MAX_RUNS_PER_SANDBOX=2", "BROKER_REUSE_SCOPE", "any"]),
    ({"EXECUTOR_BACKEND": "kubernetes"}, ["BROKER_EXECUTOR_FILE"]),
    ({"EXECUTOR_BACKEND": "kubernetes", "BROKER_EXECUTOR_FILE": "/nowhere"}, ["/nowhere", "No such file"]),
    ({"BROKER_PROGRAMS": "/nonexistent"}, ["/nonexistent", "make"]),
    ({"FILE_STORAGE_DIR": "/proc/nothing"}, ["FILE_STORAGE_DIR=/proc/nothing"]),
    ({"FILE_STORAGE_DIR": f"{ROOT}/.programs/files"}, ["FILE_STORAGE_DIR", ".programs", "outside"]),
    ({"BROKER_KEYS_FILE": "/nonexistent"}, ["BROKER_KEYS_FILE=/nonexistent", "No such file"]),
    ({"BROKER_KEYS_FILE": f"{ROOT}/README.md"}, ["BROKER_KEYS_FILE", "others may read", "chmod"]),
    ({"BROKER_KEYS_FILE": f"{ROOT}/.programs/pyvenv.cfg"}, ["BROKER_KEYS_FILE", ".programs", "outside"]),
    ({"HOST": "203.0.113.1"}, ["HOST=203.0.113.1"]),
    ({"BROKER_PRELOAD": "nunpy"}, ["BROKER_PRELOAD=nunpy", "No module named 'nunpy'"]),
    ({"BROKER_FILE_STORAGE_URL": "s4://bucket"}, ["s4://bucket", "s3://"]),
]


@pytest.mark.parametrize(("changed", "words"), REFUSALS)
def test_what_cannot_be_served_is_refused_with_a_sentence(
    tmp_path: Path, changed: dict[str, str], words: list[str]
) -> None:
    status, text = refusal(tmp_path, **changed)
    assert status == 1
    assert [word for word in words if word not in text] == []


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        status, text = refusal(tmp_path, PORT=port)
    assert (status, f"PORT={port}" in text, "in use" in text) == (1, True, True)


@pytest.mark.slow
@pytest.mark.parametrize(("host", "is_warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_address_that_others_reach_without_keys_is_warned_of(tmp_path: Path, host: str, is_warned: bool) -> None:
    with serving(tmp_path, HOST=host, LOG_LEVEL="warning"):
        assert ("Whoever reaches this port can run programs" in (tmp_path / "log").read_text()) is is_warned
