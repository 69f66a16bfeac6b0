"""`code-interpreter exec` against a service with real sandboxes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import COMMAND, Shell, sentence
from tests.fakes.impostor import impostor
from tests.http_service import Running
from tests.integration.conftest import MakeService
from tests.integration.waiting_runs import Call, began, let_end, until_begun, waiting_backend
from tests.tenants import KEYS, key_file


@pytest.fixture
def shell(local: Running, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(local.url, tmp_path)
    for each in local.client.get("/v1/files").json()["files"]:
        local.client.delete(f"/v1/files/{each['file_id']}")


def stored(service: Running) -> list[str]:
    return [each["filename"] for each in service.client.get("/v1/files").json()["files"]]


def test_arguments_stdin_output_and_status_are_the_programs(shell: Shell) -> None:
    (shell.folder / "program.py").write_text(
        "import sys\nprint(sys.argv[1:], input())\nprint('err', file=sys.stderr)\n40 + 2\nsys.exit(7)"
    )
    ended = shell("exec", "program.py", "--x", "1", stdin="né\n".encode())
    assert (ended.stdout.decode(), ended.stderr, ended.returncode) == ("['--x', '1'] né\n", b"err\n", 7)


def test_the_program_may_be_an_argument_or_stdin(shell: Shell) -> None:
    assert shell.said("exec", "-c", "import sys; print(sys.argv[1:], input())", "a", stdin=b"in") == "['a'] in"
    assert shell.said("exec", "-", "b", stdin=b"import sys; print(sys.argv[1:])") == "['b']"


def test_it_gets_variables(shell: Shell) -> None:
    assert shell.said("exec", "-e", "A=b=c", "-c", "import os; print(os.environ['A'])") == "b=c"


def test_files_go_in_and_come_out_and_none_stays_behind(shell: Shell, local: Running) -> None:
    (shell.folder / "a:b.csv").write_text("1")
    (shell.folder / "data").mkdir()
    (shell.folder / "data/c.csv").write_text("2")
    kept = local.upload(b"3", "kept.csv")
    read = "{name[:1]: open(name).read() for name in ('in/a.csv', 'c.csv', 'd')}"
    code = f"import os; os.mkdir('out')\nfor name, text in {read}.items(): open('out/' + name, 'w').write(text)"
    files = ("-f", "a:b.csv:in/a.csv", "-f", "data/c.csv", "--stored", f"{kept}:d")
    ended = shell("exec", *files, "--output", "made", "-c", code)
    assert (ended.returncode, ended.stderr) == (0, b"")
    found = {path.name: path.read_text() for path in (shell.folder / "made/out").iterdir()}
    assert found == {"i": "1", "c": "2", "d": "3"}
    assert stored(local) == ["kept.csv"]


def test_a_file_of_mine_is_replaced_only_where_that_is_asked_for(shell: Shell) -> None:
    (shell.folder / "f").write_text("mine")
    write = ("-c", "open('f', 'w').write('theirs')")
    ended = shell("exec", "--output", ".", *write)
    assert ((shell.folder / "f").read_text(), "--overwrite" in sentence(ended)) == ("mine", True)
    assert ended.returncode == 125
    shell("exec", "--output", ".", "--overwrite", *write)
    assert (shell.folder / "f").read_text() == "theirs"


def test_files_that_nobody_fetches_are_named_with_their_ids(shell: Shell) -> None:
    said = sentence(shell("exec", "-c", "open('f', 'w').write('x')"))
    assert said.startswith("f is stored as ")
    file_id = said.split()[4].rstrip(";")
    assert shell.said("files", "get", file_id, "-o", "-") == "x"


def test_a_timeout_is_124_and_says_so(shell: Shell) -> None:
    ended = shell("exec", "--timeout", "0.3", "-c", "print('on', flush=True)\nwhile True: pass")
    assert (ended.stdout, ended.returncode, sentence(ended)) == (b"on\n", 124, "ended by timeout")


def test_what_was_cut_off_is_said(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service("local", max_output_bytes=1000)
    ended = Shell(service.url, tmp_path)("exec", "-c", "print('x' * 5000)")
    assert (len(ended.stdout), sentence(ended)) == (1000, "stdout was cut")


def test_json_says_everything_at_the_end(shell: Shell) -> None:
    (shell.folder / "f").write_text("mine")
    code = "print('a')\nopen('f', 'w').write('xyz')\nraise SystemExit(3)"
    ended = shell("exec", "--json", "--output", ".", "-c", code)
    said = json.loads(ended.stdout)
    assert (said["stdout"], said["exit_code"], said["reason"], ended.returncode) == ("a\n", 3, "exited", 3)
    assert (said["files"][0]["path"], list(said["files_not_written"])) == ("f", ["f"])


def test_a_file_that_breaks_off_costs_neither_the_result_nor_the_next_file(tmp_path: Path) -> None:
    files = [{"path": name, "kind": "file", "file_id": name} for name in ("a", "b")]
    result = {"stdout": "hi", "stderr": "", "exit_code": 0, "timed_out": False, "duration_ms": 1, "files": files}
    answers = {
        "POST /v1/execute": (200, json.dumps(result).encode()),
        "GET /v1/files/a": (200, b"half"),
        "GET /v1/files/b": (200, b"whole"),
    }
    with impostor(answers, breaks_off=["GET /v1/files/a"]) as url:
        ended = Shell(url, tmp_path)("exec", "--json", "--output", "out", "-c", "")
    said = json.loads(ended.stdout)
    assert (said["stdout"], list(said["files_not_written"]), ended.returncode) == ("hi", ["a"], 125)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"b": b"whole"}


def test_output_comes_as_it_is_made_and_control_c_leaves_no_sandbox(shell: Shell, local: Running) -> None:
    with shell.begun("exec", "-c", "import time\nprint('on', flush=True)\ntime.sleep(1000)") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    local.until_idle()


def test_control_c_ends_a_run_whose_answer_was_to_come_whole(shell: Shell, local: Running) -> None:
    (shell.folder / "in").write_text("x")
    with shell.begun("exec", "--json", "-f", "in", "-c", "import time; time.sleep(1000)") as process:
        local.until(lambda: local.service.pool.snapshot().in_flight == 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    local.until_idle()
    assert stored(local) == []


def test_a_reader_that_has_enough_ends_the_run(shell: Shell, local: Running) -> None:
    with shell.begun("exec", "-c", "while True: print('y' * 1000)") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
    local.until_idle()


def test_control_sequences_reach_a_pipe_and_no_terminal_that_does_not_want_them(shell: Shell) -> None:
    say = ("-c", r"print('\x1b]0;owned\x07a\tb')")
    assert shell("exec", *say).stdout == b"\x1b]0;owned\x07a\tb\n"
    assert shell.on_a_terminal("exec", *say) == rb"\x1b]0;owned\x07a" + b"\tb\r\n"
    assert shell.on_a_terminal("exec", "--raw", *say) == b"\x1b]0;owned\x07a\tb\r\n"


def test_a_terminal_is_no_stdin(shell: Shell) -> None:
    assert b"EOFError" in shell.on_a_terminal("exec", "-c", "input()")


def test_a_busy_service_is_tried_again_and_a_person_is_told(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(waiting_backend(), pool_size=1, max_in_flight=1, queue=0)
    running = Call(service)
    until_begun(service)
    with Shell(service.url, tmp_path).begun("exec", "-c", "print(1)") as process:
        assert process.stderr is not None
        assert b"the service is busy; trying again in " in process.stderr.readline()
        let_end(service)
        assert running.answer.status_code == 200
        service.until(lambda: not began(service))
        until_begun(service)
        let_end(service)
        assert process.wait(30) == 0


WRONG = {
    "no program": ((), "There is no program"),
    "no path": (("-f", "a:", "-c", "1"), "neither LOCAL nor LOCAL:PATH"),
    "no id": (("--stored", "a", "-c", "1"), "not ID:PATH"),
    "one place for two": (("-f", "x/a", "-f", "y/a", "-c", "1"), "would both be found at 'a'"),
    "no value": (("-e", "A", "-c", "1"), "not NAME=VALUE"),
    "no time": (("--timeout", "nan", "-c", "1"), "not in the range"),
    "no address": (("--url", "localhost:8000", "-c", "1"), "http://127.0.0.1:8000 is one"),
    "no host": (("--url", "http://", "-c", "1"), "no address of a service"),
    "a key for all to see": (("--api-key", "k", "-c", "1"), "can be read by everybody"),
    "an option that there is not": (("--nothing", "-c", "1"), "--nothing"),
}


@pytest.mark.parametrize(("options", "says"), WRONG.values(), ids=WRONG)
def test_a_command_that_is_wrong_is_told_how_it_should_be(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    ended = Shell("http://127.0.0.1:1", tmp_path)("exec", *options)
    assert (ended.stdout, ended.returncode) == (b"", 2)
    assert says in " ".join(ended.stderr.decode().split())


IMPOSSIBLE = {
    "no such program": (("nothing.py",), "No such file or directory"),
    "no text": (("latin.py",), "latin.py is not UTF-8; --file sends any bytes"),
    "no such file": (("-f", "nothing", "-c", "1"), "No such file or directory"),
    "no such id": (("--stored", "x:y", "-c", "1"), "File with ID 'x' not found for path 'y'."),
    "no such path": (("-f", "latin.py:../x", "-c", "1"), "File paths must not contain '..'."),
    "no UTF-8": (("-c", "1", "\udcff"), "What was typed is not UTF-8"),
    "too long": (("--timeout", "3600", "-c", "1"), "timeout_ms exceeds maximum of 60000 ms"),
    "one place for two": (("-f", "latin.py", "--stored", "x:latin.py", "-c", "1"), "by --file and by --stored"),
    "no folder": (("--output", "latin.py/x", "-c", "1"), "Not a directory"),
}


@pytest.mark.parametrize(("options", "says"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_done_is_a_sentence_and_125(
    shell: Shell, local: Running, options: tuple[str, ...], says: str
) -> None:
    (shell.folder / "latin.py").write_bytes(b"'\xe9'")
    ended = shell("exec", *options)
    assert (ended.stdout, ended.returncode, says in sentence(ended)) == (b"", 125, True)
    assert stored(local) == []


def test_nobody_there_is_a_sentence_and_for_machines_an_object(tmp_path: Path) -> None:
    shell = Shell("http://127.0.0.1:1", tmp_path)
    ended = shell("exec", "--json", "-c", "1")
    error = json.loads(ended.stdout)["error"]
    assert (ended.returncode, error["code"], error["retryable"]) == (125, "not_reached", False)
    assert error["detail"] == sentence(ended)
    assert sentence(ended).startswith("No whole answer from http://127.0.0.1:1: ")


def test_a_refusal_is_an_object_with_the_services_own_code(shell: Shell) -> None:
    error = json.loads(shell("exec", "--json", "--timeout", "3600", "-c", "1").stdout)["error"]
    assert (error["status"], error["code"], error["retryable"]) == (422, "unprocessable", False)


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b"[]", b'{"files": 1}', b"[" * 100_000], ids=["html", "{}", "[]", "1", "deep"]
)
def test_another_kind_of_server_is_recognised(tmp_path: Path, body: bytes) -> None:
    with impostor(
        {"POST /v1/execute": (200, body), "POST /v1/execute/stream": (200, b"event: result\ndata: " + body + b"\n\n")}
    ) as url:
        shell = Shell(url, tmp_path)
        for options in ((), ("--json",)):
            ended = shell("exec", *options, "-c", "1")
            assert (ended.returncode, "not one of a code interpreter" in sentence(ended)) == (125, True)


def test_a_session_is_named_in_the_request(tmp_path: Path) -> None:
    asked: list[bytes] = []
    with impostor({"POST /v1/execute": (404, b'{"detail": "Session \'s\' not found"}')}, asked) as url:
        ended = Shell(url, tmp_path)("exec", "--json", "--session", "s", "-c", "1")
    assert (ended.returncode, sentence(ended)) == (125, "Session 's' not found")
    assert json.loads(asked[0])["session_id"] == "s"


def test_what_a_server_says_is_one_printable_line(tmp_path: Path) -> None:
    answer = json.dumps({"detail": "no\n\x1b[2Jcode-interpreter: fine\u202e"}).encode()
    with impostor({"POST /v1/execute/stream": (400, answer)}) as url:
        said = sentence(Shell(url, tmp_path)("exec", "-c", "1"))
    assert said == r"no\n\x1b[2Jcode-interpreter: fine\u202e"


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with impostor({"POST /v1/execute/stream": (307, b"")}) as url:
        assert sentence(Shell(url, tmp_path)("exec", "-c", "1")) == "HTTP 307"


def test_a_key_comes_from_the_environment_or_a_file(make_service: MakeService, tmp_path: Path) -> None:
    url = make_service(keys_file=key_file(tmp_path)).url
    (tmp_path / "key").write_text(KEYS["ana"] + "\n")
    refused = Shell(url, tmp_path)("files", "list")
    assert (refused.returncode, "key" in sentence(refused)) == (125, True)
    assert Shell(url, tmp_path)("files", "list", "--api-key-file", "key").returncode == 0
    assert Shell(url, tmp_path, CODE_INTERPRETER_API_KEY_FILE="key")("files", "list").returncode == 0
    assert Shell(url, tmp_path, CODE_INTERPRETER_API_KEY=KEYS["bob"])("files", "list").returncode == 0
    broken = Shell(url, tmp_path, CODE_INTERPRETER_API_KEY="a\nb")("files", "list")
    assert (broken.returncode, "line breaks" in sentence(broken)) == (125, True)


def test_an_address_of_the_group_goes_before_the_environment_and_after_the_commands_own(
    local: Running, tmp_path: Path
) -> None:
    elsewhere = Shell("http://127.0.0.1:1", tmp_path)
    assert elsewhere("files", "--url", local.url, "list").returncode == 0
    assert elsewhere("files", "--url", "http://127.0.0.1:2", "list", "--url", local.url).returncode == 0
    assert elsewhere("files", "list").returncode == 125


def test_closed_streams_are_empty_ones(shell: Shell) -> None:
    command = " ".join([*COMMAND, "exec", "-c", "'import sys; print(len(sys.stdin.read())); sys.exit(3)'"])
    for closed, stdout in [("<&-", b"0\n"), (">&-", b""), ("<&- >&- 2>&-", b"")]:
        ended = subprocess.run(
            f"{command} {closed}", shell=True, cwd=shell.folder, env=shell.environment,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        )  # fmt: skip
        assert (ended.stdout, ended.returncode) == (stdout, 3), closed
