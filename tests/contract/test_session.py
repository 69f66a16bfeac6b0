"""A sandbox that is a session: calls of `bash -c`, one after the other, and what stays between them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox_runtime import wire
from tests.contract import dialogue
from tests.contract.calling import Calling, opened
from tests.contract.dialogue import Speaking

# --- a call ---


def test_it_is_a_shell_in_the_workspace(session: Calling):
    ended, stdout, stderr = session.end(session.begin("echo $0 $BASH_VERSION | cut -d. -f1; pwd; echo e >&2; exit 3"))
    name, where = stdout.splitlines()
    assert (ended.exit_code, ended.reason, where, stderr) == (3, "exited", "/workspace", "e\n")
    assert name.startswith("bash ")


def test_its_standard_input_is_at_its_end(session: Calling):
    assert session.bash("cat; echo done") == (0, "done\n")


@pytest.mark.parametrize("command", ["kill -9 $$", "kill -SEGV $$"])
def test_a_signal_is_told_as_a_shell_does(session: Calling, command: str):
    number = {"kill -9 $$": 9, "kill -SEGV $$": 11}[command]
    ended, _, _ = session.end(session.begin(command))
    assert (ended.exit_code, ended.reason) == (128 + number, "signal")


def test_a_broken_pipe_ends_what_writes_to_it(session: Calling):
    assert session.bash("yes | head -1; echo ${PIPESTATUS[0]}") == (0, "y\n141\n")


def test_calls_come_one_after_the_other(session: Calling):
    runs = [session.begin(f"sleep 0.1; echo {number}") for number in range(3)]
    assert [session.end(run)[1] for run in runs] == ["0\n", "1\n", "2\n"]


def test_a_command_may_be_as_long_as_the_kernel_takes(session: Calling):
    text = "x" * 100_000
    run = "long"
    command = f"printf {text}".encode()
    for start in range(0, len(command), 40_000):
        piece = command[start : start + 40_000]
        last = start + 40_000 >= len(command)
        session.speaks.say(wire.Stage(target="command", path="", data=piece, last=last), run=run)
    session.speaks.say(wire.Shell(timeout_ms=10_000, wait_ms=10_000), run=run)
    assert session.end(run)[1] == text


# --- what stays, and what does not ---


def test_files_stay_and_variables_do_not(session: Calling):
    assert session.bash("echo kept > file; mkdir -p /tmp/f; here=1; export there=2; cd /tmp") == (0, "")
    assert session.bash("cat file; ls -d /tmp/f; echo $here$there; pwd") == (0, "kept\n/tmp/f\n\n/workspace\n")


def test_what_runs_in_the_background_goes_on(session: Calling):
    code, _ = session.bash("while sleep 0.02; do echo x; echo x >> ticks; done &")
    assert code == 0
    session.bash("rm -f ticks")
    assert session.bash("until [ -s ticks ]; do sleep 0.02; done") == (0, "")


def test_a_later_call_can_end_it(session: Calling):
    session.bash("sleep 100 & echo $! > pid")
    session.bash("kill $(cat pid)")
    assert session.bash("while kill -0 $(cat pid) 2>/dev/null; do sleep 0.02; done; echo gone") == (0, "gone\n")


def test_a_call_that_leaves_something_is_answered_at_its_own_end(session: Calling):
    ended, _, _ = session.end(session.begin("sleep 100 & echo here"))
    assert ended.duration_ms < 5_000


def test_a_later_call_can_talk_to_it(broker: Speaking):
    serve = 'import http.server as h; h.HTTPServer(("127.0.0.1", 8765), h.SimpleHTTPRequestHandler).serve_forever()'
    ask = 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:8765/file").read().decode())'
    with opened(broker, loopback=True) as session:
        session.bash(f"echo -n hello > file; python3 -c '{serve}' 2> log &")
        wait = "until (exec 3<>/dev/tcp/127.0.0.1/8765) 2>/dev/null; do sleep 0.05; done"
        assert session.bash(f"{wait}; python3 -c '{ask}'") == (0, "hello\n")


def test_without_leave_there_is_no_network(session: Calling):
    code, _ = session.bash("python3 -c 'import socket; socket.socket()'")
    assert code == 1


@pytest.mark.parametrize(
    ("family", "kind", "protocol"), [(2, 1, 132), (2, 5, 0), (2, 2, 136), (16, 3, 0), (38, 5, 0), (40, 1, 0)]
)
def test_with_leave_there_is_ip_and_no_other(broker: Speaking, family: int, kind: int, protocol: int):
    with opened(broker, loopback=True) as session:
        ask = f"import socket; socket.socket({family}, {kind}, {protocol})"
        ended, _, stderr = session.end(session.begin(f"python3 -c '{ask}'"))
        assert (ended.exit_code, "Permission denied" in stderr) == (1, True)


# --- ends ---


def test_a_timeout_ends_the_call_and_what_it_started_and_nothing_else(session: Calling):
    session.bash("sleep 100 & echo $! > before")
    hidden = "setsid sleep 101 & (setsid setsid sleep 102 &) ; sleep 103"
    ended, _, _ = session.end(session.begin(hidden, timeout_ms=2000))
    assert (ended.exit_code, ended.reason) == (None, "timeout")
    assert session.bash("kill -0 $(cat before) && echo alive") == (0, "alive\n")
    assert session.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 10[123]'") == (1, "")


def test_a_cancel_does_the_same(session: Calling):
    run = session.begin("echo begun; sleep 100")
    heard = session.speaks.hear()
    assert heard == (run, wire.Output(stream="stdout", data=b"begun\n"))
    session.speaks.say(wire.Cancel(), run=run)
    ended, _, _ = session.end(run)
    assert (ended.exit_code, ended.reason) == (None, "cancelled")
    assert session.bash("echo on") == (0, "on\n")


def test_one_that_waits_and_is_cancelled_never_begins(session: Calling):
    first, second = session.begin("sleep 0.3"), session.begin("touch made")
    session.speaks.say(wire.Cancel(), run=second)
    assert session.end(second)[0].reason == "cancelled"
    assert session.end(first)[0].exit_code == 0
    assert session.bash("ls made 2>/dev/null") == (2, "")


def test_too_much_output_ends_the_call(broker: Speaking, session: Calling):
    ended, _, _ = session.end(session.begin("yes", timeout_ms=30_000))
    assert ended.reason == "output_limit"
    assert session.bash("echo on") == (0, "on\n")


def test_too_much_memory_ends_all_that_lives_and_the_session_goes_on(session: Calling):
    session.bash("sleep 1002 &")
    hog = "python3 -c 'import time; kept = b\"x\" * (150 << 20); time.sleep(5)'"
    ended, _, _ = session.end(session.begin(f"{hog} & {hog} & {hog}"))
    assert (ended.exit_code, ended.reason) == (137, "oom")
    assert session.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 100[2]'") == (1, "0\n")


def test_what_is_ended_is_gone_before_the_next_call(session: Calling):
    hog = "python3 -c 'import time; kept = b\"x\" * (60 << 20); time.sleep(50)'"
    ended, _, _ = session.end(session.begin(" & ".join([hog] * 6)))
    assert (ended.exit_code, ended.reason) == (137, "oom")
    zygote_supervisor_and_shell = 3
    assert session.bash("set -- /proc/[0-9]*; echo $#") == (0, f"{zygote_supervisor_and_shell}\n")


def test_a_fork_bomb_ends_and_the_session_goes_on(session: Calling):
    ended, _, _ = session.end(session.begin("bomb() { bomb | bomb & }; bomb; sleep 5", timeout_ms=8000))
    assert ended.reason in ("process_limit", "timeout")
    assert session.bash("echo on") == (0, "on\n")


def test_after_a_fork_bomb_later_calls_may_take_their_time(session: Calling):
    session.end(session.begin("bomb() { bomb | bomb & }; bomb; sleep 5", timeout_ms=8000))
    assert session.bash("sleep 100 & echo $! > before") == (0, "")
    assert session.bash("sleep 1.5; kill -0 $(cat before) && echo slept") == (0, "slept\n")


STALKER = """
import os, signal, sys, time
if os.fork(): os._exit(0)
os.setsid()
def next_pid():
    return int(open("/proc/loadavg").read().split()[4])
seen = {int(each) for each in os.listdir("/proc") if each.isdigit()}
until = time.monotonic() + 60
while time.monotonic() < until:
    now = {int(each) for each in os.listdir("/proc") if each.isdigit()}
    for pid in now - seen:
        try: os.kill(pid, signal.SIGNAL)
        except OSError: pass
    seen |= now
"""


def stalking(name: str) -> str:
    return f"cat > stalker.py <<'E'{STALKER.replace('SIGNAL', name)}E\npython3 stalker.py; sleep 0.3"


@pytest.mark.parametrize("name", ["SIGSTOP", "SIGKILL"])
def test_what_was_left_cannot_blind_the_supervisor_for_long(broker: Speaking, name: str):
    with opened(broker, ttl_ms=12_000) as session:
        session.end(session.begin(stalking(name)))
        for number in range(20):  # each is stopped, or ends the session with the child that it needs
            session.begin("true", timeout_ms=200)
            session.speaks.say(wire.Ping(nonce=number), run="")
        assert session.speaks.lost.wait(dialogue.PATIENCE_SECONDS)


def test_a_flood_in_the_background_is_read_slowly_and_not_for_ever(session: Calling):
    before = supervisor_seconds()
    session.bash("yes & yes >&2 & yes & yes >&2 &")
    assert session.bash("sleep 1; echo on") == (0, "on\n")
    assert supervisor_seconds() - before < 0.5
    assert session.bash("while cat /proc/[0-9]*/comm | grep -q '^yes$'; do sleep 0.1; done; echo gone") == (0, "gone\n")


def supervisor_seconds() -> float:
    fields = Path(f"/proc/{dialogue.supervisor()}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_its_time_ends_it_whatever_runs(broker: Speaking):
    with opened(broker, ttl_ms=300) as session:
        session.begin("trap '' TERM; sleep 100")
        assert session.speaks.rest() == []
        assert session.speaks.lost.wait(dialogue.PATIENCE_SECONDS)


def test_with_its_channel_it_ends(broker: Speaking):
    with opened(broker) as session:
        session.bash("sleep 100 &")
        session.speaks.end()
        assert session.speaks.lost.wait(dialogue.PATIENCE_SECONDS)


def test_it_is_alive_while_a_call_runs(session: Calling):
    run = session.begin("sleep 0.2")
    assert session.speaks.pong(7)
    assert session.end(run)[0].exit_code == 0


# --- what is no protocol ---


@pytest.mark.parametrize(
    "message",
    [
        wire.Stage(target="code", path="", data=b"", last=True),
        wire.Run(args=[], env={}, last_line_interactive=True, timeout_ms=1, collect_ms=0),
        wire.Session(ttl_ms=1, proof="", loopback=False),
        wire.Prove(token=""),
        wire.Clean(),
        wire.Stage(target="command", path="", data=b"x" * 48_000, last=False),
    ],
)
def test_what_has_no_place_in_a_session_ends_it(broker: Speaking, message: wire.Message):
    with opened(broker) as session:
        session.speaks.say(*[message] * 4)
        assert session.speaks.rest() == []
