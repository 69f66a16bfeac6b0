"""`code-interpreter`, typed into a shell whose environment names a service."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.source_tree import ROOT

COMMAND = [sys.executable, "-m", "broker"]
ENOUGH_SECONDS = 60.0
Ended = subprocess.CompletedProcess[bytes]


class Shell:
    def __init__(self, url: str, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT}/client:{ROOT}/sandbox-runtime",
            "CODE_INTERPRETER_URL": url,
            **variables,
        }

    def __call__(self, *args: str, stdin: bytes = b"") -> Ended:
        return subprocess.run(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=ENOUGH_SECONDS,
        )

    def said(self, *args: str, stdin: bytes = b"") -> str:
        """What a command that succeeds prints."""
        ended = self(*args, stdin=stdin)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.decode().strip()

    @contextmanager
    def begun(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def on_a_terminal(self, *args: str, typed: bytes = b"") -> bytes:
        """What a person would see."""
        ours, theirs = pty.openpty()
        os.write(ours, typed)
        with subprocess.Popen(
            [*COMMAND, *args], cwd=self.folder, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            seen = b"".join(_read_to_the_end(ours))
            process.wait(ENOUGH_SECONDS)
        os.close(ours)
        return seen


def _read_to_the_end(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # EIO: nobody holds the other end any more
            return
        if not data:
            return
        yield data


def sentence(ended: Ended) -> str:
    """What a command says that did not do what was asked: one line, no traceback."""
    lines = ended.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("code-interpreter: ")
    return lines[0].removeprefix("code-interpreter: ")
