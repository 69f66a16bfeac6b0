"""`make chart` packages what the folder renders."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.chart.rendering import helm_path, rendered
from tests.source_tree import ROOT


def test_the_package_renders_what_the_folder_renders(tmp_path: Path) -> None:
    expected = rendered()
    path = f"{Path(str(helm_path())).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["make", "chart", f"DIST={tmp_path}"], cwd=ROOT, env={**os.environ, "PATH": path}, check=True, timeout=60
    )
    (package,) = tmp_path.glob("code-interpreter-*.tgz")
    assert rendered(chart=package) == expected
