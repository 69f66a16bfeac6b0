"""`code-interpreter files`: what goes into the store, what comes out, and what cannot."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from tests.command_line import Shell, sentence
from tests.fakes.impostor import impostor
from tests.integration.conftest import MakeService


@pytest.fixture
def shell(make_service: MakeService, tmp_path: Path) -> Shell:
    return Shell(make_service().url, tmp_path)


def test_put_get_list_and_delete(shell: Shell) -> None:
    (shell.folder / "a.csv").write_bytes(b"\0a")
    (shell.folder / "b").mkdir()
    (shell.folder / "b/报告.csv").write_bytes(b"b" * 300_000)
    first, second = shell.said("files", "put", "a.csv", "b/报告.csv").splitlines()
    listed = [line.split() for line in shell.said("files", "list").splitlines()]
    assert [(row[0], row[1], row[-1]) for row in listed] == [(first, "2", "a.csv"), (second, "300000", "报告.csv")]
    shell.said("files", "get", first, second, "-o", "got/")
    assert (shell.folder / "got/a.csv").read_bytes() == b"\0a"
    assert (shell.folder / "got/报告.csv").read_bytes() == b"b" * 300_000
    shell.said("files", "delete", first, second)
    assert shell.said("files", "list") == ""


def test_stdin_goes_in_and_stdout_comes_out(shell: Shell) -> None:
    file_id = shell.said("files", "put", "-", "--name", "x.bin", stdin=b"\xff\n")
    assert shell("files", "get", file_id, file_id, "-o", "-").stdout == b"\xff\n\xff\n"
    assert json.loads(shell.said("files", "list", "--json"))[0]["filename"] == "x.bin"


def test_a_file_that_is_there_stays(shell: Shell) -> None:
    file_id = shell.said("files", "put", "-", "--name", "f", stdin=b"theirs")
    (shell.folder / "f").write_text("mine")
    for options in ((), ("-o", "f"), ("-o", "./")):
        refused = shell("files", "get", file_id, *options)
        assert (refused.returncode, "--overwrite" in sentence(refused)) == (125, True)
        assert (shell.folder / "f").read_text() == "mine"
    shell.said("files", "get", file_id, "--overwrite")
    assert (shell.folder / "f").read_text() == "theirs"


def test_a_file_goes_to_where_it_is_said(shell: Shell) -> None:
    file_id = shell.said("files", "put", "-", "--name", "f", stdin=b"x")
    shell.said("files", "get", file_id, "-o", "new/name")
    shell.said("files", "get", file_id, "-o", "new")
    assert {path.name for path in (shell.folder / "new").iterdir()} == {"name", "f"}


def test_one_that_fails_does_not_stop_the_others(shell: Shell) -> None:
    file_id = shell.said("files", "put", "-", "--name", "f", stdin=b"x")
    got = shell("files", "get", "nothing", file_id)
    assert (got.returncode, sentence(got)) == (125, "File with ID 'nothing' not found")
    assert (shell.folder / "f").read_bytes() == b"x"
    put = shell("files", "put", "nothing", "f")
    assert (put.returncode, len(put.stdout.splitlines()), "No such file" in sentence(put)) == (125, 1, True)
    put = shell("files", "put", "--json", "nothing", "f")
    assert (put.returncode, [each["filename"] for each in json.loads(put.stdout)]) == (125, ["f"])
    deleted = shell("files", "delete", "nothing", file_id)
    assert (deleted.returncode, sentence(deleted)) == (125, "File with ID 'nothing' not found")
    assert file_id not in shell.said("files", "list")


def test_where_nothing_could_be_stored_a_machine_reads_why(tmp_path: Path) -> None:
    ended = Shell("http://127.0.0.1:1", tmp_path)("files", "put", "--json", "missing")
    assert (ended.returncode, json.loads(ended.stdout)["error"]["code"]) == (125, "not_done")


def test_a_file_that_is_too_large_is_a_sentence(make_service: MakeService, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * 2**20))
    ended = Shell(make_service(max_file_size_mb=1).url, tmp_path)("files", "put", "large")
    assert (ended.returncode, sentence(ended)) == (125, "File size exceeds maximum of 1 MB")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("put", "-"), "--name gives it one"),
        (("put", "--name", "x", "a", "b"), "--name is for one file"),
        (("get", "a", "b", "-o", "file"), "-o file/ is a folder"),
        (("get",), "Missing argument"),
        (("delete",), "Missing argument"),
    ],
)
def test_a_command_that_is_wrong_is_told_how_it_should_be(tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    ended = Shell("http://127.0.0.1:1", tmp_path)("files", *args)
    assert (ended.returncode, says in ended.stderr.decode()) == (2, True)


HOSTILE = ["../evil", "/tmp/evil", "a/../../evil", ".bashrc", "..", "", "a\0b", "\ud800", "x" * 300]
HOSTILE += ["--checkpoint-action=exec=sh", "-rf", "a\x1b[2J", "a\nb", "fdp\u202etxt.exe"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_leads_nowhere_but_into_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    listing = {"files": [{"file_id": "1", "filename": name, "size_bytes": 4}]}
    with impostor({"GET /v1/files": (200, json.dumps(listing).encode()), "GET /v1/files/1": (200, b"evil")}) as url:
        ended = Shell(url, folder)("files", "get", "1", "--overwrite")
        assert (ended.returncode, len(sentence(ended)) > 20) == (125, True)
        assert list(tmp_path.rglob("*")) == [folder]
        Shell(url, folder).said("files", "get", "1", "-o", "mine")
    assert (folder / "mine").read_bytes() == b"evil"


def test_names_reach_the_screen_as_escapes(tmp_path: Path) -> None:
    files = [{"file_id": "\x1b[31m1", "filename": "a\x1b]52;c;eA==\x07\nb\u202e", "size_bytes": 1, "upload_time": 1e99}]
    with impostor({"GET /v1/files": (200, json.dumps({"files": files}).encode())}) as url:
        seen = Shell(url, tmp_path).on_a_terminal("files", "list").decode()
        assert Shell(url, tmp_path)("files", "list", "--json").stdout.isascii()
    heads, row = seen.splitlines()
    assert heads.split() == ["ID", "BYTES", "STORED", "NAME"]
    assert row.split() == [r"\x1b[31m1", "1", "-", r"a\x1b]52;c;eA==\x07\nb\u202e"]


def test_an_id_reaches_the_screen_as_escapes(tmp_path: Path) -> None:
    stored = {"file_id": "\x1b[2J", "filename": "f", "size_bytes": 1}
    opened = {"session_id": "\x1b[2J", "expires_at": 1}
    answers = {
        "POST /v1/files": (201, json.dumps(stored).encode()),
        "POST /v1/sessions": (201, json.dumps(opened).encode()),
    }
    with impostor(answers) as url:
        shell = Shell(url, tmp_path)
        said = [shell.said("files", "put", "-", "--name", "f", stdin=b"x"), shell.said("sessions", "create")]
    assert said == [r"\x1b[2J"] * 2


def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        ended = Shell(url, tmp_path)("files", "get", "1", "-o", "f")
        thread.join()
    assert (ended.returncode, len(sentence(ended)) > 20, list(tmp_path.iterdir())) == (125, True, [])


def test_a_reader_that_has_enough_ends_it(shell: Shell) -> None:
    file_id = shell.said("files", "put", "-", "--name", "f", stdin=bytes(10 * 2**20))
    with shell.begun("files", "get", file_id, "-o", "-") as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
