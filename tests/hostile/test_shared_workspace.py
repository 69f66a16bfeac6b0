"""A program of a session gets files, and leaves some, beside guests that live and move folders meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pool import InputsRefused
from sandbox_runtime import beneath
from tests.held_sessions import HeldSession, held_session
from tests.hostile.attack import program
from tests.sandboxes import Sandboxes

ATTEMPTS = 200_000
"""Of which a few dozen are enough, where two processes run at once; where they take turns, it takes more."""

SWAP = """
import os, sys
outside, number = sys.argv[1], 0
os.makedirs("real/below", exist_ok=True)
open("real/below/data", "w").write("mine")
os.symlink(outside, "false")
while True:
    for name in ("real", "false"):
        try:
            os.rename(name, "folder")
            os.rename("folder", name)
        except OSError:  # something was made in its place
            number += 1
            os.rename("folder", f"aside-{number}")
"""
"""`folder` is now a folder, now a link to one outside, now nothing."""


class Ground:
    def __init__(self, home: Path) -> None:
        self.root, self.outside = home / "workspace", home / "outside"
        for folder in (self.root, self.outside / "below"):
            folder.mkdir(parents=True)
        (self.outside / "below/data").write_text("secret")
        self.tree = beneath.SharedTree(str(self.root))

    def read(self) -> str:
        """What is in the file, or why it cannot be opened."""
        return self._tried(self._read)

    def write(self) -> str:
        return self._tried(self._write)

    def _read(self) -> str:
        file = self.tree.opened(b"folder/below/data", os.O_RDONLY)
        try:
            return os.read(file, 100).decode()
        finally:
            os.close(file)

    def _write(self) -> str:
        file = self.tree.nameless()
        try:
            self.tree.link(file, "folder/below/given")
        finally:
            os.close(file)
        return "written"

    def _tried(self, act: Callable[[], str]) -> str:
        try:
            return act()
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def until(self, act: Callable[[], str], holds: Callable[[set[str]], bool]) -> set[str]:
        """All that came of it, until that holds."""
        seen: set[str] = set()
        for _ in range(ATTEMPTS):
            seen.add(act())
            if holds(seen):
                break
        return seen

    def was_written_outside(self) -> bool:
        return (self.outside / "below/given").exists()


@pytest.fixture
def swapped(tmp_path: Path) -> Iterator[Ground]:
    ground = Ground(tmp_path)
    swapping = subprocess.Popen([sys.executable, "-S", "-c", SWAP, str(ground.outside)], cwd=ground.root)
    try:
        yield ground
    finally:
        swapping.kill()
        swapping.wait()


# --- the opening itself ---


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(swapped: Ground):
    both = {"mine", "ELOOP"}
    read = swapped.until(swapped.read, both.issubset)
    assert both <= read <= {*both, "ENOENT", "EXDEV"}
    seen = swapped.until(swapped.write, {"written", "ELOOP"}.issubset)
    assert {"written", "ELOOP"} <= seen
    assert not swapped.was_written_outside()


def test_without_the_kernels_word_it_leads_out(swapped: Ground, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beneath, "RESOLVE", 0)
    assert "secret" in swapped.until(swapped.read, lambda seen: "secret" in seen)
    swapped.until(swapped.write, lambda _: swapped.was_written_outside())
    assert swapped.was_written_outside()


# --- a session with such a guest ---

BACKGROUND = """
if os.fork():
    os._exit(0)
os.setsid()
for place, word in (("real", "mine"), ("/tmp/outside", "secret")):
    os.makedirs(place + "/below")
    open(place + "/big", "wb").write(bytes(2 << 20))
    open(place + "/below/data", "w").write(word)
os.symlink("/tmp/outside", "false")
open("begun", "w").close()
while True:
    for name in ("real", "false"):
        try:
            os.rename(name, "folder")
            os.utime("folder/big"); os.utime("folder/below/data")
            time.sleep(0.0005)
            os.rename("folder", name)
        except OSError:  # a folder was made in its place
            shutil.rmtree("folder", ignore_errors=True)
"""
"""While `big` is told, what stands beside it in `folder` is another's."""

WAIT = "until [ -e begun ]; do sleep 0.01; done"


@contextmanager
def beside_a_swapper(boxes: Sandboxes) -> Iterator[HeldSession]:
    with held_session(boxes) as session:
        session.run(program(BACKGROUND))
        session.bash(WAIT)
        yield session


def test_nothing_from_outside_comes_back(boxes: Sandboxes):
    with beside_a_swapper(boxes) as session:
        found: set[bytes] = set()
        for _ in range(40):
            files = session.run("import time; time.sleep(0.01)").files
            found |= {data for path, data in files.items() if path.endswith("/data")}
    assert b"mine" in found
    assert found <= {b"mine", b""}


def test_nothing_is_put_outside_and_what_has_a_place_runs(boxes: Sandboxes):
    with beside_a_swapper(boxes) as session:
        found = set()
        for _ in range(100):
            found.add(_given(session))
            if len(found) == 2:
                break
        assert found == {"ran", "refused"}
        assert session.bash("ls /tmp/outside/below").stdout == "data\n"


def _given(session: HeldSession) -> str:
    try:
        session.run("pass", files={"folder/below/given": b"x"})
    except InputsRefused:
        return "refused"
    return "ran"


GROWING = """
if os.fork():
    os._exit(0)
os.setsid()
open("begun", "w").close()
number = 0
while True:
    number += 1
    with open("log", "ab") as log:
        log.write(b"x" * 65536)
        if log.tell() > 20 << 20: log.truncate(0)
    os.makedirs("new/" + "d/" * 20)
    shutil.rmtree(f"deep-{number % 5}", ignore_errors=True)
    os.rename("new", f"deep-{number % 5}")
"""


def test_a_tree_that_moves_and_a_file_that_grows_hold_nobody_up(boxes: Sandboxes):
    with held_session(boxes) as session:
        session.run(program(GROWING))
        session.bash(WAIT)
        before = session.bash("stat -c %i deep-*").stdout
        for _ in range(10):
            ended = session.run("open('made', 'w').write('x')")
            assert (ended.exit_code, ended.files["made"]) == (0, b"x")
        assert session.bash("stat -c %i deep-*").stdout != before
