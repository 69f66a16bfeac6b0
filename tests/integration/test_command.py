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

from broker.keys import parse
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
    kept = run(code, options=("--output", str(folder)))
    assert ((folder / "file.txt").is_symlink(), b"--overwrite" in kept.stderr) == (True, True)
    ended = run(code, options=("--output", str(folder), "--overwrite"))
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
def test_json_does_not_name_what_was_not_written_among_the_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    ended = run("open('f', 'w').write('theirs')", options=("--json", "--output", str(tmp_path)))
    said = json.loads(ended.stdout)
    assert (said["files"], [each["path"] for each in said["files_not_written"]]) == ([], ["f"])
    assert (tmp_path / "f").read_text() == "mine"


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


SOURCES = {
    "a coding cookie": b"# coding: latin-1\nprint(ascii('\xe9'))",
    "a mark": b"\xef\xbb\xbfprint(1)",
    "not UTF-8": b"1\n'\xe9'",
    "a cookie of no encoding": b"# coding: latin-47\nprint(1)",
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_source_is_read_as_python_reads_it(tmp_path: Path, source: bytes) -> None:
    file = tmp_path / "__main__.py"
    file.write_bytes(source)
    # Both ends of the comparison name their own folder.
    ended, bare = (
        subprocess.run([*command, str(file)], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        for command in ([*COMMAND, "run"], ["/usr/bin/python3.11"])
    )
    expected = bare.stderr.replace(str(tmp_path).encode(), b"/workspace")
    assert (ended.stdout, ended.returncode, ended.stderr) == (bare.stdout, bare.returncode, expected)


@pytest.mark.slow
def test_stdin_may_be_any_bytes(run: Run) -> None:
    ended = run("import sys\nprint(sys.stdin.buffer.read())", stdin=b"\xff\0\xfe")
    assert ended.stdout == b"b'\\xff\\x00\\xfe'\n"


@pytest.mark.slow
def test_options_behind_the_file_are_the_programs_and_a_person_is_told(run: Run) -> None:
    ended = run("import sys\nprint(sys.argv[1:])", "--output", "x", "--timeout=3")
    assert ended.stdout == b"['--output', 'x', '--timeout=3']\n"
    assert [word for word in (b"--output behind FILE", b"--timeout behind FILE") if word not in ended.stderr] == []


@pytest.mark.slow
def test_closed_streams_are_empty_ones(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text("import sys\nprint(len(sys.stdin.read()))\nprint(2, file=sys.stderr)\nsys.exit(3)")
    command = " ".join([*COMMAND, "run", str(file)])
    for closed, stdout, stderr in [
        ("<&-", b"0\n", b"2\n"),
        (">&-", b"", b"2\n"),
        ("2>&-", b"0\n", b""),
        ("<&- >&-", b"", b"2\n"),
        ("<&- >&- 2>&-", b"", b""),
    ]:
        ended = subprocess.run(
            f"{command} {closed}", shell=True, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        assert (ended.stdout, ended.stderr, ended.returncode) == (stdout, stderr, 3), closed


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_without_a_word(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text("while True: print('y' * 1000)")
    with subprocess.Popen(
        [*COMMAND, "run", str(file)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as ended:
        assert ended.stdout is not None
        assert ended.stderr is not None
        ended.stdout.readline()
        ended.stdout.close()
        said = ended.stderr.read()
    assert (ended.returncode, said) == (141, b"")
    command = f"{' '.join([*COMMAND, 'run', '--json', str(file)])} | true; exit ${{PIPESTATUS[0]}}"
    file.write_text("print(1)")
    whole = subprocess.run(["bash", "-c", command], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (whole.returncode, whole.stderr) == (141, b"")


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e300", "0", "-1", "x"])
def test_an_impossible_timeout_is_refused(run: Run, seconds: str) -> None:
    ended = run("print(1)", options=("--timeout", seconds))
    assert (ended.stdout, ended.returncode) == (b"", 2)


def test_a_source_that_is_not_there_or_too_long_is_a_sentence(run: Run, tmp_path: Path) -> None:
    missing = subprocess.run(
        [*COMMAND, "run", str(tmp_path / "no.py")], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert missing.returncode == 2
    too_long = run("#" * (32 * 2**20 + 1))
    assert (too_long.returncode, b"32 MB" in too_long.stderr) == (125, True)
    assert b"Traceback" not in missing.stderr + too_long.stderr


@pytest.mark.slow
def test_the_readmes_line_makes_the_picture(tmp_path: Path) -> None:
    (line,) = [line for line in (ROOT / "README.md").read_text().splitlines() if "code-interpreter run" in line]
    arguments = line.partition("#")[0].split()[1:]
    (tmp_path / arguments[-1]).write_text(
        "import pandas\nframe = pandas.DataFrame({'a': [1, 3, 2]})\nprint(frame.a.sum())\n"
        "frame.plot().figure.savefig('chart.png')"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "BROKER_PROGRAMS": str(ROOT / ".programs")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"6\n", b"", 0)
    assert (tmp_path / "pictures/chart.png").read_bytes().startswith(b"\x89PNG")


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


def test_keys_makes_a_key_whose_line_goes_into_the_file() -> None:
    made = subprocess.run([*COMMAND, "keys", "search", "--note", "laptop"], cwd=ROOT, capture_output=True, timeout=60)
    key = made.stderr.decode().split()[-1]
    assert parse(made.stdout).tenant_of(key) == "search"
    assert key.startswith("ci_")
    assert key.encode() not in made.stdout


def test_keys_refuses_a_name_that_is_none() -> None:
    made = subprocess.run([*COMMAND, "keys", "Two Words"], cwd=ROOT, capture_output=True, timeout=60)
    assert (made.returncode, made.stdout) == (1, b"")
    assert b"Two Words is no name for a tenant" in made.stderr
