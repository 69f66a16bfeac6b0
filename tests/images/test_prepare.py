"""What `prepare.py` refuses, and what it leaves of the image that it was copied from."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.source_tree import ROOT


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "sandbox-runtime" / "prepare.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", str(tmp_path))
    monkeypatch.setattr(module, "FONTS", str(tmp_path / "matplotlib"))
    return module


def test_too_old_a_python_is_refused(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prepare, "OLDEST", (99, 0))
    with pytest.raises(SystemExit, match=r"is too old: the runtime needs 3\.9"):
        prepare.main()


def test_half_a_python_is_refused(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prepare, "NEEDED", ("os", "no_such_module", "nor_this"))
    with pytest.raises(SystemExit, match="this Python has no no_such_module and no nor_this: "):
        prepare.main()


def test_who_cannot_write_is_told_which_line_is_missing(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit, match="say USER root before this line"):
        prepare.main()


def test_what_another_image_made_goes(prepare: ModuleType, tmp_path: Path):
    stale = [tmp_path / "matplotlib/fontlist-v1.json", tmp_path / "sandbox_runtime/pod/__pycache__/x.cpython-39.pyc"]
    source = tmp_path / "sandbox_runtime/pod/x.py"
    for path in [*stale, source]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    prepare.forget_other_image()
    assert [path for path in stale if path.parent.exists()] == []
    assert source.exists()


def test_everybody_can_read_what_a_strict_umask_checked_out(prepare: ModuleType, tmp_path: Path):
    source = tmp_path / "sandbox_runtime/wire.py"
    source.parent.mkdir(mode=0o700)
    source.touch(mode=0o600)
    prepare.let_everybody_read()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path, source.parent, source)] == [0o755, 0o755, 0o644]


def test_a_folder_of_font_lists_is_no_matplotlib(tmp_path: Path):
    """Python looks for modules in the folder of its script first, and a folder without a file is a module."""
    for name in ("prepare.py", "start.py"):
        (tmp_path / name).write_bytes((ROOT / "sandbox-runtime" / name).read_bytes())
    code = "import runpy, sys; sys.path.insert(0, {0!r}); sys.argv[0] = {0!r} + '/prepare.py'\n"
    code += "import compileall; compileall.compile_dir = lambda *a, **k: None\n"
    code += "runpy.run_path({0!r} + '/prepare.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code.format(str(tmp_path))], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("without a font list\n"), done.stderr
    assert list((tmp_path / "matplotlib").iterdir()) == []
