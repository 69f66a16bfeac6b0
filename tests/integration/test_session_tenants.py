"""Sessions of several tenants: nobody finds another's, and each has as many as it may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.http_service import running
from tests.tenants import client_of, key_file


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    folder: Path = tmp_path_factory.mktemp("tenants")
    keys = key_file(folder, ana={"sessions": 2, "concurrency": 1, "queue": 0})
    with running(folder, "local", keys_file=keys, max_sessions=4) as service, ExitStack() as stack:
        ana, bob = (stack.enter_context(client_of(service.url, name)) for name in ("ana", "bob"))
        yield ana, bob


def opened(client: httpx.Client) -> str:
    answer = client.post("/v1/sessions", json={})
    assert answer.status_code == 201, answer.text
    session_id: str = answer.json()["session_id"]
    return session_id


def test_anothers_session_is_not_found_in_the_words_of_one_that_never_was(clients: tuple[httpx.Client, httpx.Client]):
    ana, bob = clients
    theirs = opened(ana)
    for session_id in (theirs, "00000000-0000-4000-8000-000000000000"):
        for answer in (
            bob.post(f"/v1/sessions/{session_id}/bash", json={"cmd": "true"}),
            bob.delete(f"/v1/sessions/{session_id}"),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (404, f"Session '{session_id}' not found")
    assert ana.post(f"/v1/sessions/{theirs}/bash", json={"cmd": "echo on"}).json()["stdout"] == "on\n"
    assert ana.delete(f"/v1/sessions/{theirs}").status_code == 204


def test_a_tenant_has_as_many_as_it_may_and_others_have_theirs(clients: tuple[httpx.Client, httpx.Client]):
    # Its limits of runs, one at once and none that waits, are no limits of sessions.
    ana, bob = clients
    mine = [opened(ana), opened(ana)]
    refused = ana.post("/v1/sessions", json={})
    assert (refused.status_code, refused.json()["code"]) == (429, "sessions_full")
    assert 1 <= int(refused.headers["Retry-After"]) <= 900
    theirs = opened(bob)
    assert bob.delete(f"/v1/sessions/{theirs}").status_code == 204
    for session_id in mine:
        assert ana.delete(f"/v1/sessions/{session_id}").status_code == 204


def test_without_a_key_there_is_no_session(clients: tuple[httpx.Client, httpx.Client]):
    ana, _ = clients
    answer = httpx.post(f"{ana.base_url}/v1/sessions", json={}, trust_env=False)
    assert answer.status_code == 401


def test_no_program_runs_in_anothers_session(clients: tuple[httpx.Client, httpx.Client]):
    ana, bob = clients
    theirs = opened(ana)
    for path in ("/v1/execute", "/v1/execute/stream"):
        answer = bob.post(path, json={"code": "open('ran', 'w')", "session_id": theirs})
        assert (answer.status_code, answer.json()["detail"]) == (404, f"Session '{theirs}' not found")
    assert ana.post("/v1/execute", json={"code": "import os; os.listdir()", "session_id": theirs}).json()["stdout"] == (
        "['__main__.py']\n"
    )
    assert ana.delete(f"/v1/sessions/{theirs}").status_code == 204
