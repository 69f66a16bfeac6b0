"""`code-interpreter sessions`, with real sandboxes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import Shell, sentence
from tests.fakes.impostor import impostor
from tests.http_service import Running, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("sessions"), "local", max_sessions=2) as found:
        yield found


@pytest.fixture
def shell(service: Running, tmp_path: Path) -> Shell:
    return Shell(service.url, tmp_path)


@pytest.fixture
def session(shell: Shell) -> Iterator[str]:
    session_id = shell.said("sessions", "create", "--ttl", "600")
    yield session_id
    shell("sessions", "delete", session_id)


def test_files_go_in_and_stay_from_one_command_to_the_next(shell: Shell, service: Running) -> None:
    (shell.folder / "a").write_text("x")
    session_id = shell.said("sessions", "create", "-f", "a:in/a")
    assert service.client.get("/v1/files").json() == {"files": []}
    shell.said("sessions", "bash", session_id, "cp in/a b")
    assert shell.said("sessions", "bash", session_id, "-", stdin=b"cat b") == "x"
    shell.said("sessions", "delete", session_id)
    assert shell("sessions", "bash", session_id, "ls").returncode == 125


def test_output_and_status_are_the_commands(shell: Shell, session: str) -> None:
    ended = shell("sessions", "bash", session, "echo out; echo err >&2; exit 7")
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"out\n", b"err\n", 7)
    ended = shell("sessions", "bash", "--json", session, "echo out; exit 7")
    assert (json.loads(ended.stdout)["stdout"], ended.returncode) == ("out\n", 7)


def test_a_timeout_is_124_and_keeps_the_session(shell: Shell, session: str) -> None:
    ended = shell("sessions", "bash", "--timeout", "0.3", session, "echo kept > f; sleep 1000")
    assert (ended.returncode, sentence(ended)) == (124, "its time was up")
    assert shell.said("sessions", "bash", session, "cat f") == "kept"


def test_control_c_ends_the_command_and_keeps_the_session(shell: Shell, session: str, service: Running) -> None:
    with shell.begun("sessions", "bash", session, "echo kept > f; sleep 1000") as process:
        service.until(lambda: service.service.active == 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert shell.said("sessions", "bash", session, "true; echo on") == "on"


def test_what_is_typed_into_the_shell_runs_line_by_line(shell: Shell, session: str) -> None:
    ended = shell("sessions", "shell", session, stdin=b"echo 1 > f\n\ncat f\nexit 3\n")
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"1\n", b"", 3)
    assert shell.said("sessions", "bash", session, "cat f") == "1"


def test_a_shell_of_its_own_leaves_no_session(shell: Shell, service: Running) -> None:
    assert shell.said("sessions", "shell", stdin=b"pwd\n") == "/workspace"
    service.until(lambda: not len(service.service.sessions))


def test_a_line_that_is_refused_costs_neither_the_shell_nor_its_session(shell: Shell) -> None:
    long = b"true " + b"x" * 140_000
    ended = shell("sessions", "shell", stdin=b"echo kept > f\n" + long + b"\ncat f\n")
    assert (ended.stdout, ended.returncode, len(sentence(ended)) > 20) == (b"kept\n", 0, True)
    assert shell("sessions", "shell", stdin=long).returncode == 125


def test_a_connection_that_breaks_off_costs_its_line(tmp_path: Path) -> None:
    asked: list[bytes] = []
    run = "POST /v1/sessions/s/bash"
    with impostor({run: (200, b"{")}, asked, breaks_off=[run]) as url:
        ended = Shell(url, tmp_path)("sessions", "shell", "s", stdin=b"first\nsecond\n")
    assert [json.loads(body)["cmd"] for body in asked] == ["first", "second"]
    said = ended.stderr.decode().splitlines()
    assert (ended.returncode, ["No whole answer" in line for line in said]) == (125, [True, True])


def test_a_person_sees_a_prompt_and_ends_it_with_control_d(shell: Shell, session: str) -> None:
    seen = shell.on_a_terminal("sessions", "shell", session, typed=b"echo $((6 * 7))\n\x04")
    assert seen.endswith(b"$ 42\r\n$ \r\n")


def test_control_sequences_do_not_reach_a_terminal(shell: Shell, session: str) -> None:
    say = ("sessions", "bash", session, r"printf '\033[2J'")
    assert shell(*say).stdout == b"\x1b[2J"
    assert shell.on_a_terminal(*say) == rb"\x1b[2J"


def test_a_program_runs_among_the_files_of_a_session(shell: Shell, session: str) -> None:
    shell.said("sessions", "bash", session, "echo there > f")
    (shell.folder / "in").write_text("sent")
    program = ("-c", "print(open('f').read() + open('in').read()); open('made', 'w').write('x')")
    ended = shell("exec", "--session", session, "-f", "in", "--output", "out", *program)
    assert (ended.stdout, ended.returncode) == (b"there\nsent\n", 0)
    assert shell.said("sessions", "bash", session, "cat made") == "x"
    assert (shell.folder / "out/made").read_text() == "x"


@pytest.mark.parametrize("args", [("bash", "s", "-"), ("shell", "s")])
def test_a_command_that_is_not_utf_8_is_a_sentence(tmp_path: Path, args: tuple[str, ...]) -> None:
    for mode in ("strict", "surrogateescape"):
        shell = Shell("http://127.0.0.1:1", tmp_path, PYTHONIOENCODING=f"utf-8:{mode}")
        ended = shell("sessions", *args, stdin=b"echo \xff\n")
        assert (ended.returncode, "is not UTF-8" in sentence(ended)) == (125, True)


def test_more_than_may_be_open_is_a_sentence(shell: Shell) -> None:
    opened = [shell.said("sessions", "create") for _ in range(2)]
    refused = shell("sessions", "create")
    assert (refused.returncode, refused.stdout) == (125, b"")
    assert "session" in sentence(refused)
    assert shell("sessions", "delete", *opened).returncode == 0


def test_what_is_no_session_is_a_sentence(shell: Shell) -> None:
    for args in (("bash", "none", "ls"), ("delete", "none"), ("shell", "none")):
        ended = shell("sessions", *args, stdin=b"ls\n")
        assert (ended.returncode, sentence(ended)) == (125, "Session 'none' not found")


@pytest.mark.parametrize(
    "args",
    [("create", "--ttl", "0"), ("create", "--ttl", "86401"), ("bash", "id"), ("bash", "id", "ls", "-l"), ("delete",)],
)
def test_a_command_that_is_wrong_is_2(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert Shell("http://127.0.0.1:1", tmp_path)("sessions", *args).returncode == 2
