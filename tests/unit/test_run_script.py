"""Of two lanes side by side, the script tells how each ended, and fails if either did."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "run.sh"
PYTEST = """#!/bin/sh
case "$*" in
*"not cluster"*) echo tests of this machine; exit "$HERE" ;;
*) echo tests of the cluster; exit "$THERE" ;;
esac
"""


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One in which pytest, the cluster and the ordinary user are stand-ins, and whoever asks is root."""
    _program(tmp_path / ".venv/bin/python", PYTEST)
    _program(tmp_path / "bin/id", "#!/bin/sh\necho 0\n")
    _program(tmp_path / "tests/cluster/cluster", "#!/bin/sh\necho a cluster\n")
    _program(tmp_path / "tests/as_user.sh", 'echo tests as a user\nexit "$AS_USER"\n')
    shutil.copy(SCRIPT, tmp_path / "tests/run.sh")
    return tmp_path


def _run(checkout: Path, *, here: int = 0, there: int = 0, as_user: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "CI": "true",
        "HERE": str(here),
        "THERE": str(there),
        "AS_USER": str(as_user),
    }
    script = ["bash", str(checkout / "tests/run.sh")]
    return subprocess.run(script, env=environment, text=True, capture_output=True, timeout=60, check=False)


def test_it_passes_where_all_pass_and_shows_all(checkout: Path) -> None:
    ended = _run(checkout)

    assert ended.returncode == 0, ended.stderr
    shown = ["a cluster", "tests of the cluster", "tests of this machine", "tests as a user"]
    assert ended.stdout.splitlines() == shown


@pytest.mark.parametrize("lane", ["here", "there", "as_user"])
def test_it_fails_where_one_fails_and_shows_what_the_other_said(checkout: Path, lane: str) -> None:
    ended = _run(checkout, **{lane: 1})

    assert ended.returncode == 1
    assert "tests of the cluster" in ended.stdout
    assert "tests of this machine" in ended.stdout
