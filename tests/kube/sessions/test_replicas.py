"""Every replica serves every session: what one has made, the other calls, counts and ends."""

from __future__ import annotations

import itertools
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cluster.harness import eventually
from tests.kube.sessions.conftest import Pair
from tests.kube.support.accounts import ACCOUNT
from tests.kube.support.replicas import Estate
from tests.repository import repository

pytestmark = pytest.mark.slow

AUDIT_SECONDS = 1.0
"""An entry is written a moment after its answer."""
CALLS = 20


def test_a_coding_agent_goes_from_one_replica_to_the_other(shared: Estate, pair: Pair):
    turns = itertools.cycle(pair)
    stored = next(turns).bob.post("/v1/files", files={"file": ("repo.tar.gz", repository())}).json()["file_id"]
    session = next(turns).open(ttl_seconds=600, files=[{"path": "repo.tar.gz", "file_id": stored}])
    listing = next(turns).bash(session, "tar -xzf repo.tar.gz --strip-components=1 && rm repo.tar.gz && ls")
    assert listing.split() == ["adding.py", "test_adding.py"]
    failing = next(turns).ask(session, "python3 -m unittest -q").json()
    assert (failing["exit_code"], "-1 != 3" in failing["stderr"]) == (1, True)
    next(turns).bash(session, "sed -i 's/a - b/a + b/' adding.py")
    assert next(turns).bash(session, "python3 -m unittest -q 2>&1 | tail -1") == "OK\n"
    assert next(turns).close(session) == 204
    assert [each.ask(session, "true").status_code for each in pair] == [404, 404]
    eventually(lambda: not shared.session_pods(), 10)


def test_a_program_of_one_replica_finds_what_the_other_left(pair: Pair):
    one, two = pair
    session = one.open()
    one.bash(session, "echo of-bash > file")
    code = "print(open('file').read(), end=''); _ = open('made', 'w').write('of-python')"
    answer = two.bob.post("/v1/execute", json={"code": code, "session_id": session}).json()
    assert (answer["stdout"], [each["path"] for each in answer["files"]]) == ("of-bash\n", ["made"])
    assert one.bash(session, "cat made") == "of-python"
    one.close(session)


def test_what_runs_in_the_background_is_everybodys(pair: Pair):
    one, two = pair
    session = one.open()
    one.bash(session, "while sleep 0.02; do echo x >> ticks; done & echo $! > pid")
    two.bash(session, "rm -f ticks; sleep 0.2; wc -l < ticks; kill $(cat pid)")
    assert one.bash(session, "sleep 0.1; rm -f ticks; sleep 0.2; ls") == "pid\n"
    one.close(session)


def test_calls_on_both_at_once_wait_for_each_other(pair: Pair):
    session = pair[0].open()
    pair[0].bash(session, "echo 0 > count")
    step = "n=$(cat count); sleep 0.05; echo $((n + 1)) > count"
    threads = [threading.Thread(target=each.bash, args=(session, step)) for each in pair * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pair[1].bash(session, "cat count") == "6\n"
    pair[0].close(session)


def test_a_call_that_the_other_replica_leaves_no_time_has_not_begun(pair: Pair):
    one, two = pair
    session = one.open()
    first = threading.Thread(target=one.bash, args=(session, "touch begun; sleep 14"), kwargs={"timeout_ms": 20_000})
    first.start()
    while (refused := two.ask(session, "test -e begun && touch never", timeout_ms=100)).status_code == 200:
        pass  # it came before the first one
    assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (503, "pool_timeout", True)
    first.join()
    assert two.bash(session, "ls") == "begun\n"
    one.close(session)


def test_anothers_session_is_not_found_on_any(pair: Pair):
    session = pair[0].open(pair[0].ana)
    for each in pair:
        answer = each.ask(session, "true")
        assert (answer.status_code, answer.json()["detail"]) == (404, f"Session '{session}' not found")
        assert each.close(session) == 404
    assert pair[1].ask(session, "echo on", pair[1].ana).json()["stdout"] == "on\n"
    assert pair[1].close(session, pair[1].ana) == 204


def test_a_tenant_has_as_many_as_it_may_on_all_together(pair: Pair):
    one, two = pair
    mine = [one.open(one.ana), two.open(two.ana)]
    for each in pair:
        refused = each.ana.post("/v1/sessions", json={})
        assert (refused.status_code, refused.json()["code"]) == (429, "sessions_full")
    assert one.close(mine[1], one.ana) == 204
    mine[1] = one.open(one.ana)
    for session in mine:
        assert two.close(session, two.ana) == 204


def test_its_pod_is_nobodys_and_ends_in_its_time_whoever_lives(shared: Estate, pair: Pair):
    before = time.time()
    session = pair[0].open(ttl_seconds=300)
    [pod] = [
        each for each in shared.session_pods() if each["metadata"]["labels"]["code-interpreter/session"] == session
    ]
    labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
    assert labels["code-interpreter/owner"] == "session"
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert 300 < pod["spec"]["activeDeadlineSeconds"] < 600
    terms = json.loads(annotations["code-interpreter/session-terms"])
    assert before + 300 <= terms["expires_at"] <= time.time() + 300
    pair[1].close(session)


def asked_since(shared: Estate, read: int, began: datetime) -> list[Any]:
    """Of the API server by the replicas, but for their Leases and watches. A stream has an entry when it ends, too."""
    name = f"system:serviceaccount:{shared.namespace}:{ACCOUNT}"
    with shared.cluster.audit_log.open("rb") as file:
        file.seek(read)
        entries = [json.loads(line) for line in file.read().splitlines()]
    mine = [each for each in entries if each["user"]["username"] == name and each["verb"] != "watch"]
    new = [each for each in mine if datetime.fromisoformat(each["requestReceivedTimestamp"]) > began]
    objects = {each["auditID"]: (each["verb"], each["objectRef"]) for each in new}.values()
    return [
        (verb, each["resource"], each.get("subresource", "")) for verb, each in objects if each["resource"] != "leases"
    ]


def test_calls_write_nothing_and_each_replica_opens_one_channel(shared: Estate, pair: Pair):
    session = pair[0].open()
    time.sleep(AUDIT_SECONDS)
    read, began = shared.cluster.audit_log.stat().st_size, datetime.now(UTC)
    for number in range(CALLS):
        assert pair[number % 2].bash(session, f"echo {number}") == f"{number}\n"
    time.sleep(AUDIT_SECONDS)
    assert asked_since(shared, read, began) == [("get", "pods", "exec")] * 2
    pair[0].close(session)
