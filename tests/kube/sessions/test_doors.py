"""A session's door: the service's channels come in with a token, and a guest, who can find the door, has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kube.sessions.conftest import Pair
from tests.kube.support.replicas import Estate

pytestmark = pytest.mark.slow

KNOCK = """
import base64, json, socket, sys

def frames(token):
    bodies = [] if token is None else [("prove", "", {"token": token})]
    command = base64.b64encode(b"touch /workspace/inside").decode()
    bodies += [
        ("stage", "r", {"target": "command", "path": "", "data": command, "last": True}),
        ("shell", "r", {"timeout_ms": 1000}),
    ]
    for number, (kind, run, body) in enumerate(bodies):
        yield json.dumps({"v": 3, "kind": kind, "run": run, "seq": number, "body": body}).encode() + b"\\n"

for token in (None, "", "0" * 64, "1" * 64):
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(5)
    door.connect("\\0code-interpreter/supervisor")
    try:
        door.sendall(b"".join(frames(token)))
        print(door.recv(1000))
    except ConnectionError:
        print(b"")
"""

SPY = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if not open(f"/proc/{pid}/cmdline", "rb").read().startswith(b"code-interpreter\\0supervisor"):
        continue
    for name in ("mem", "environ", "fd/0", "maps"):
        try:
            with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                file.seek(0)
                print("open", end=" ")
        except PermissionError:
            print("denied", end=" ")
    print()
"""


def test_a_guest_knocks_in_vain(pair: Pair):
    one, two = pair
    session = one.open()
    knocked = one.bash(session, f"cat > knock.py <<'E'\n{KNOCK}\nE\npython3 knock.py")
    assert knocked == "b''\n" * 4
    assert two.bash(session, "ls") == "knock.py\n"
    one.close(session)


CROWD = """
import socket, time
doors = []
for _ in range(100):
    doors.append(socket.socket(socket.AF_UNIX))
    doors[-1].connect("\\0code-interpreter/supervisor")
open("crowded", "w").close()
time.sleep(1000)
"""


def test_a_guest_that_crowds_the_door_keeps_nobody_out(pair: Pair):
    one, two = pair
    session = one.open()
    one.bash(
        session, f"cat > crowd.py <<'E'\n{CROWD}\nE\npython3 crowd.py & until test -e crowded; do sleep 0.05; done"
    )
    assert two.bash(session, "echo in") == "in\n"
    one.close(session)


def test_a_guest_reads_the_token_nowhere(pair: Pair):
    one, two = pair
    session = one.open()
    two.bash(session, "true")
    supervisor_and_bridges = 3
    found = one.bash(session, f"cat > spy.py <<'E'\n{SPY}\nE\npython3 spy.py").splitlines()
    assert found == ["denied " * 4] * supervisor_and_bridges
    one.close(session)


def test_with_another_secret_a_replica_is_not_let_in(shared: Estate, pair: Pair, tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("0" * 64)
    session = pair[0].open()
    with shared.replica("stranger", BROKER_SESSION_SECRET_FILE=str(other)) as stranger:
        answer = stranger.ask(session, "touch inside", timeout_ms=1000)
        assert (answer.status_code, answer.json()["code"]) == (503, "pool_timeout")
    assert pair[1].bash(session, "ls") == ""
    pair[0].close(session)
