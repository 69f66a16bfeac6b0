"""`code-interpreter run` and `doctor`, as a person types them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.source_tree import ROOT

COMMAND = [sys.executable, "-m", "broker"]
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(
        code: str, *args: str, options: tuple[str, ...] = (), stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        file = tmp_path / "program.py"
        file.write_text(code)
        command = [*COMMAND, "run", *options, str(file), *args]
        return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, timeout=60)

    return run


@pytest.mark.slow
def test_stdin_arguments_output_and_status_are_the_programs(run: Run) -> None:
    code = "import sys\nprint(sys.argv[1:], input())\nprint('err', file=sys.stderr)\n40 + 2\nsys.exit(7)"
    ended = run(code, "--x", "1", stdin="né\n".encode())
    assert (ended.stdout.decode(), ended.stderr, ended.returncode) == ("['--x', '1'] né\n", b"err\n", 7)


@pytest.mark.slow
def test_output_comes_as_it_is_made(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text("import time\nprint('first', flush=True)\ntime.sleep(30)")
    with subprocess.Popen(
        [*COMMAND, "run", str(file)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as found:
        assert found.stdout is not None
        began = time.monotonic()
        assert found.stdout.readline() == b"first\n"
        assert time.monotonic() - began < 20
        found.terminate()
    assert found.returncode != 0


@pytest.mark.slow
def test_files_go_to_the_folder_and_never_through_a_link(run: Run, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("mine")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "file.txt").symlink_to(elsewhere / "kept.txt")
    code = (
        "import os\nfor path in ('sub/chart.png', 'linked/evil.txt', 'file.txt'):\n"
        "    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)\n    open(path, 'w').write('theirs')"
    )
    ended = run(code, options=("--output", str(folder)))
    assert ended.returncode == 0
    assert (folder / "sub/chart.png").read_text() == "theirs"
    assert (folder / "file.txt").read_text() == "theirs"
    assert not (folder / "file.txt").is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["kept.txt"]
    assert (elsewhere / "kept.txt").read_text() == "mine"
    assert b"linked" in ended.stderr
    assert not list(folder.rglob("*.partial"))


@pytest.mark.slow
def test_without_a_folder_it_says_that_files_were_dropped(run: Run) -> None:
    assert b"--output" in run("open('a', 'w').write('x')").stderr


@pytest.mark.slow
def test_a_timeout_is_124_and_says_so(run: Run) -> None:
    ended = run("print('on', flush=True)\nwhile True: pass", options=("--timeout", "0.3"))
    assert (ended.stdout, ended.returncode, b"timeout" in ended.stderr) == (b"on\n", 124, True)


@pytest.mark.slow
def test_json_says_everything_at_the_end(run: Run) -> None:
    ended = run("print('a')\nopen('f', 'w').write('xyz')\nraise SystemExit(3)", options=("--json",))
    said = json.loads(ended.stdout)
    assert (said["stdout"], said["exit_code"], ended.returncode) == ("a\n", 3, 3)
    assert said["files"] == [{"path": "f", "size_bytes": 3}]


@pytest.mark.slow
def test_a_program_may_come_from_stdin() -> None:
    ended = subprocess.run([*COMMAND, "run", "-"], cwd=ROOT, input=b"print(6 * 7)", capture_output=True, timeout=60)
    assert (ended.stdout, ended.returncode) == (b"42\n", 0)


@pytest.mark.slow
def test_a_terminal_is_no_stdin(tmp_path: Path) -> None:
    file = tmp_path / "asks.py"
    file.write_text("input()")
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run([*COMMAND, "run", str(file)], cwd=ROOT, stdin=theirs, capture_output=True, timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (ended.returncode, b"EOFError" in ended.stderr) == (1, True)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "program.py"
    if content is not None:
        file.write_bytes(content)
    ended = subprocess.run(
        [*COMMAND, "run", str(file)], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert ended.returncode in (1, 2)
    assert b"Traceback" not in ended.stderr


def doctor(**changed: str) -> Any:
    ended = subprocess.run(
        [*COMMAND, "doctor", "--json"], cwd=ROOT, env={**os.environ, **changed}, capture_output=True, timeout=60
    )
    return ended.returncode, json.loads(ended.stdout)


def test_the_doctor_lists_protections_and_agrees_with_serve() -> None:
    status, report = doctor()
    assert (status, report["serves"]) == (0, True)
    assert set(report["protections"][0]) == {"name", "present", "needed", "meaning", "remedy"}
    status, report = doctor(BROKER_PROGRAMS="/nonexistent")
    assert (status, report["serves"]) == (1, False)


def test_the_doctors_table_is_for_people() -> None:
    ended = subprocess.run([*COMMAND, "doctor"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "environment for programs" in ended.stdout
    assert "serve starts" in ended.stdout
