"""The base install: the client and its commands, from the wheel and what `client.lock` names and nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http_service import Running
from tests.source_tree import ROOT

OF_THE_SERVICE = ["starlette", "uvicorn", "msgspec", "kubernetes_asyncio", "aiohttp", "structlog", "obstore"]


def pins() -> Iterator[tuple[str, str]]:
    """What is locked for the client, at versions that are those of the environment that the tests run in."""
    yield from re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / "requirements/client.lock").read_text(), re.M)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel of this checkout, and copies of what the lock names: no index is asked."""
    folder = tmp_path_factory.mktemp("base") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = folder.glob("lib/python3.*/site-packages")
    for name, version in pins():
        copy(importlib.metadata.distribution(name), version, packages)
    pip, offline = [sys.executable, "-m", "pip", "--disable-pip-version-check"], ["--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", folder.parent, ROOT], check=True)
    [wheel] = folder.parent.glob("*.whl")
    subprocess.run([*pip, "--python", folder / "bin/python", "install", *offline, wheel], check=True)
    return folder


def copy(found: importlib.metadata.Distribution, version: str, packages: Path) -> None:
    assert found.version == version
    for file in found.files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.locate().read_bytes())  # type: ignore[attr-defined]  # a Path, by its documentation


def run(base: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(base / "bin" / args[0]), *args[1:]]
    return subprocess.run(
        command, cwd=base, env={**environment, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_holds_no_library_of_the_service(base: Path) -> None:
    tried = f"import importlib.util as u; print([name for name in {OF_THE_SERVICE} if u.find_spec(name)])"
    assert run(base, "python", "-c", tried).stdout == "[]\n"


def test_the_client_runs_a_program_in_both_its_forms(base: Path, local: Running) -> None:
    program = f"""
import anyio
from code_interpreter_client import AsyncClient, Client
with Client({local.url!r}) as client:
    print(client.execute("print(6 * 7)").stdout)
async def main():
    async with AsyncClient({local.url!r}) as client:
        print((await client.execute("print(6 * 7)")).stdout)
anyio.run(main)
"""
    ended = run(base, "python", "-c", program)
    assert (ended.stdout, ended.stderr) == ("42\n\n42\n\n", "")


def test_exec_runs_a_program(base: Path, local: Running) -> None:
    ended = run(base, "code-interpreter", "exec", "--url", local.url, "-c", "print(6 * 7); raise SystemExit(3)")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("42\n", "", 3)


def test_help_names_every_command(base: Path) -> None:
    ended = run(base, "code-interpreter", "--help")
    assert ended.returncode == 0
    named = re.findall(r"^  (\w+)  ", ended.stdout, re.M)
    assert named == ["doctor", "exec", "files", "keys", "run", "serve", "sessions"]


@pytest.mark.parametrize("args", [["serve"], ["serve", "--help"], ["run", "a.py", "--x"], ["keys", "ana"], ["doctor"]])
def test_a_command_of_the_service_is_one_sentence_that_names_the_extra(base: Path, args: list[str]) -> None:
    ended = run(base, "code-interpreter", *args)
    [said] = ended.stderr.splitlines()
    assert (ended.stdout, ended.returncode) == ("", 125)
    assert "the extra `server`" in said
