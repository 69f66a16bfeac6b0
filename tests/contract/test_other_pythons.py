"""Telling programs by `sandbox_runtime.program` on every Python of this machine, against that Python itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.contract import samples
from tests.contract.pythons import pythons
from tests.contract.test_differential import shown

DIRECT = Path(__file__).with_name("direct.py")
RUNTIME = Path(__file__).resolve().parents[2] / "sandbox-runtime"
VARIABLES = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "LANG": "C.UTF-8"}

TELLING = {
    "tracebacks: a chain of four, with cause and context",
    "tracebacks: in an imported module of the workspace",
    "tracebacks: StopIteration at top level",
    "tracebacks: the last line repeated in recursion",
    "syntax: an f-string with a bad expression",
    "syntax: the future does not leak into eval",
    "exits: exit with a string",
    "exits: exit in nested finally",
    "exits: a subclass of SystemExit whose code raises",
    "exits: exit with stderr closed",
    "exits: KeyboardInterrupt from within exit handlers' reach",
    "atexit: a handler looks at the stack",
    "atexit: a handler warns with a stack level",
    "atexit: threading's own handlers come first",
    "threads: a thread goes on after an exception",
    "hooks: an excepthook that raises",
    "hooks: an excepthook that prints the stack",
    "hooks: a hook for what cannot be raised, and an exception that can",
    "hooks: functions that end programs are taken away",
    "hooks: cProfile that is left on to the end",
    "hooks: a tool that monitors is left on",
    "introspection: the namespace at the start",
    "introspection: the stack, printed",
    "introspection: pickle of a class in main",
    "asyncio: a coroutine that is never awaited, kept to the end",
    "warnings: stack levels at top level",
    "streams: what the streams are",
    "processes: fork, and both go on to the end",
    "processes: a process with spawn",
    "endings: __del__ at the end uses the module's names",
    "endings: __del__ in the order of definition",
    "endings: a file that is left open after an exception",
}
PROGRAMS = [sample for sample in samples.read_all() if sample.name in TELLING]


def run(command: list[str], folder: Path, sample: samples.Sample) -> dict[str, object]:
    folder.mkdir()
    for path, content in {"__main__.py": sample.code.encode(), **sample.files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    done = subprocess.run(
        [*command, str(folder / "__main__.py"), *sample.args],
        input=(sample.stdin or "").encode(),
        capture_output=True,
        cwd=folder,
        env=VARIABLES,
        timeout=60,
        check=False,
    )
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return {"stdout": shown(done.stdout), "stderr": shown(done.stderr), "status": done.returncode, "files": files}


def test_all_the_telling_programs_are_there():
    assert {sample.name for sample in PROGRAMS} == TELLING


@pytest.mark.parametrize("version", pythons())
@pytest.mark.parametrize("sample", PROGRAMS, ids=[sample.name for sample in PROGRAMS])
def test_a_program_behaves_as_with_that_python(version, sample, tmp_path):
    python = str(pythons()[version])
    folder = tmp_path / "workspace"
    expected = run([python], folder, sample)
    folder.rename(tmp_path / "reference")

    found = run([python, str(DIRECT), str(RUNTIME)], folder, sample)

    assert found == expected
