"""Scripts are clean by shellcheck."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.source_tree import ROOT

FOLDERS = (".ci", "images", "requirements", "tests")


def _is_script(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:32].partition(b"\n")[0] in (b"#!/usr/bin/env bash", b"#!/bin/sh")


SCRIPTS = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if _is_script(path)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_clean_by_shellcheck(script: Path) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("there is no shellcheck here; on Debian: apt-get install shellcheck")
    found = subprocess.run([program, script], capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout == ""


def test_there_are_scripts() -> None:
    assert {"run", "run.sh", "cluster", "build.sh"} <= {path.name for path in SCRIPTS}
