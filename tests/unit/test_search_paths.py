"""An image whose environment has a channel's Python run what a guest has left makes no sandbox."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sandbox_runtime import places, search_paths
from tests.source_tree import ROOT

START = ROOT / "sandbox-runtime" / "start.py"


@pytest.mark.parametrize("name", ["PATH", "LD_LIBRARY_PATH"])
@pytest.mark.parametrize(
    "element", ["", "lib", "./lib", "$ORIGIN/lib", "/workspace", "/workspace/lib", "/tmp/x", "/dev/shm/", "/usr/../tmp"]
)
def test_a_folder_that_is_a_guests_is_refused(name: str, element: str):
    for value in (f"/usr/lib:{element}", f"{element}:/usr/lib"):
        said = search_paths.refusal({name: value})
        assert said is not None
        assert (name in said, repr(element) in said) == (True, True)


def test_the_loader_takes_a_semicolon_too():
    assert search_paths.refusal({"LD_LIBRARY_PATH": "/usr/lib;/tmp"}) is not None


def test_a_link_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "WRITABLE", (str(tmp_path / "writable"),))
    (tmp_path / "link").symlink_to(tmp_path / "writable")
    assert search_paths.refusal({"PATH": f"/usr/bin:{tmp_path}/link/bin"}) is not None


@pytest.mark.parametrize("value", ["lib/x.so", "/usr/lib/x.so:/tmp/x.so", "/workspace/x.so"])
@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT"])
def test_a_library_that_is_a_guests_is_refused(name: str, value: str):
    assert search_paths.refusal({name: value}) is not None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PATH": "", "LD_LIBRARY_PATH": "", "LD_PRELOAD": ""},
        {"PATH": "/opt/env/bin:/usr/local/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "/opt/cuda/lib64"},
        {"PATH": "/tmpfs/bin:/workspaces/bin"},
        {"LD_PRELOAD": "libjemalloc.so.2 /usr/lib/x.so:"},
    ],
)
def test_what_only_the_image_holds_is_well(environment: dict[str, str]):
    assert search_paths.refusal(environment) is None


def test_a_container_of_such_an_image_says_so_and_ends():
    environment = {**os.environ, "LD_LIBRARY_PATH": "/usr/lib:"}
    command = [sys.executable, "-I", "-S", str(START), "zygote", "{}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("LD_LIBRARY_PATH of the image has the element '', which is no absolute path")
    assert "Traceback" not in ended.stderr
