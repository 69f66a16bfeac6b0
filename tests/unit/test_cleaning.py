"""The order in which a place is put back, and what is said of it. What is noticed: tests/hostile/test_recycling.py."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sandbox_runtime import cleaning, facts, places, stamps
from sandbox_runtime.cleaning import Baseline


class KnownFacts:
    """Facts that a test can change; all that is different is in the places."""

    changed: ClassVar[dict[str, object]] = {}
    others: ClassVar[list[str]] = []

    def __init__(self, writable: object) -> None:
        pass

    def now(self, before: object = None) -> dict[str, object]:
        return {"the weather": "fine", "the hour": 7, **self.changed}


@pytest.fixture
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three places of a test's own, as a sandbox has them before its first run. Returns the folder of the fonts."""
    own = [tmp_path / name for name in ("workspace", "tmp", "shm")]
    for each in (*own, tmp_path / "fonts"):
        each.mkdir()
    (tmp_path / "fonts/list.json").touch()
    monkeypatch.setattr(places, "WRITABLE", tuple(map(str, own)))
    monkeypatch.setattr(places, "MATPLOTLIB_FOLDER", f"{tmp_path}/tmp/.matplotlib")
    # Where all file systems of the machine are used, by others too, room is no fact.
    kept = tuple(name for name in places.COMPARED if not name.startswith("used"))
    monkeypatch.setattr(places, "COMPARED", kept)
    monkeypatch.setattr(facts, "Facts", KnownFacts)
    monkeypatch.setattr(stamps, "_TOPS", ())
    monkeypatch.setattr(KnownFacts, "changed", {})
    places.lay_out_tmp(f"{tmp_path}/fonts")
    return f"{tmp_path}/fonts"


def test_what_was_made_is_wiped_and_nothing_is_found(fonts: str, tmp_path: Path):
    baseline = Baseline(fonts)
    (tmp_path / "workspace/made").touch()
    findings, evidence = baseline.restore()
    assert findings == []
    assert evidence == {"wiped": 3, "places": 3, "facts": 2 + 3 * len(places.COMPARED)}
    assert os.listdir(tmp_path / "tmp/.matplotlib") == ["list.json"]


def test_it_can_be_done_again_and_again(fonts: str, tmp_path: Path):
    baseline = Baseline(fonts)
    for _ in range(5):
        (tmp_path / "shm/made").mkdir()
        assert baseline.restore()[0] == []


def test_a_fact_that_has_changed_is_named_and_not_quoted(fonts: str):
    baseline = Baseline(fonts)
    KnownFacts.changed = {"the hour": "as a program says"}
    assert baseline.restore()[0] == ["the hour is not as it was"]


def test_a_place_that_is_different_is_named_with_what_is(fonts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    baseline = Baseline(fonts)
    (tmp_path / "shm").chmod(0o711)
    monkeypatch.setattr(places, "restore", lambda *_: None)
    monkeypatch.setattr(places, "wipe", lambda place, until: _remove_fonts(place))
    assert baseline.restore()[0] == [f"mode of {tmp_path}/shm is not as it was"]


def _remove_fonts(place: str) -> int:
    for path in Path(place).glob(".matplotlib"):
        (path / "list.json").unlink()
        path.rmdir()
    return 0


@pytest.mark.parametrize(
    ("error", "said"),
    [(PermissionError(1, "Operation not permitted"), "Operation not permitted"),
     (places.TooSlow("3 entries"), "there was no end to it")],
)  # fmt: skip
def test_a_place_that_cannot_be_wiped_is_not_compared(
    fonts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
):
    def refuse(place: str, until: float) -> int:
        if place.endswith("shm"):
            raise error
        return wipe(place, until)

    baseline, wipe = Baseline(fonts), places.wipe
    monkeypatch.setattr(places, "wipe", refuse)
    monkeypatch.setattr(baseline, "_differences", _never)
    assert baseline.restore()[0] == [f"{tmp_path}/shm could not be wiped: {said}"]


def test_what_cannot_be_laid_out_is_a_finding(fonts: str, monkeypatch: pytest.MonkeyPatch):
    def refuse(_: str) -> None:
        raise OSError(28, "No space left on device")

    baseline = Baseline(fonts)
    monkeypatch.setattr(places, "lay_out_tmp", refuse)
    assert baseline.restore()[0] == ["the places could not be laid out: No space left on device"]


def test_a_place_that_cannot_be_looked_at_is_a_finding(fonts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    baseline = Baseline(fonts)
    monkeypatch.setattr(places, "State", _refuse)
    assert baseline.restore()[0] == ["the places could not be compared: Input/output error"]


def test_the_proof_is_given_a_fixed_time(fonts: str, monkeypatch: pytest.MonkeyPatch):
    given: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    baseline, wipe = Baseline(fonts), places.wipe
    monkeypatch.setattr(places, "wipe", lambda place, until: given.append(until) or wipe(place, until))  # type: ignore[func-returns-value]
    baseline.restore()
    assert given == [100.0 + cleaning.WIPE_SECONDS] * 3


def _never() -> Any:
    raise AssertionError("compared")


def _refuse(place: str) -> Any:
    raise OSError(5, "Input/output error")


# --- facts


def test_a_signal_that_is_pending_is_a_fact_and_a_dead_child_is_not():
    calm = b"ShdPnd:\t0000000000000000\nSigPnd:\t0000000000000000\nThreads:\t1\nVmRSS:\t  7 kB\n"
    child = calm.replace(b"ShdPnd:\t0000000000000000", b"ShdPnd:\t%016x" % (1 << (signal.SIGCHLD - 1)))
    user = calm.replace(b"ShdPnd:\t0000000000000000", b"ShdPnd:\t%016x" % (1 << (signal.SIGUSR1 - 1)))
    assert facts._status(calm) == facts._status(child) != facts._status(user)
    assert facts._status(calm) == facts._status(calm.replace(b"7 kB", b"8 kB"))
    assert facts._status(calm) != facts._status(calm.replace(b"\t1\n", b"\t2\n"))


def test_what_else_can_be_written_to_is_found_by_its_mount(tmp_path: Path):
    (tmp_path / "last-words").touch()
    line = "36 35 0:1 / {} {} - tmpfs none rw\n"
    mounts = "".join(
        line.format(path, options)
        for path, options in (
            (tmp_path / "last-words", "rw,nosuid"),
            (tmp_path, "ro,relatime"),
            ("/dev/null", "rw"),
            ("/proc", "rw"),
            ("/workspace", "rw"),
            ("/not/there", "rw"),
        )
    )
    assert facts._other_places(mounts.encode(), ["/workspace"]) == [str(tmp_path / "last-words")]


def test_what_is_not_there_has_no_content(tmp_path: Path):
    reader = facts.Facts([])
    assert reader._read(str(tmp_path / "missing")) == b""
    (tmp_path / "large").write_bytes(b"x" * 200_000)
    assert len(reader._read(str(tmp_path / "large"))) == 200_000


def test_facts_of_a_process_that_does_nothing_stay_as_they_are(monkeypatch: pytest.MonkeyPatch):
    reader = facts.Facts([])
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as idle:
        # In this test's own process threads of others come and go.
        monkeypatch.setattr(os, "getpid", lambda: idle.pid)
        # Of that process: the list of processes and the mounts are everybody's here.
        of_it = [{name: value for name, value in reader.now().items() if "the supervisor" in name} for _ in range(2)]
        assert of_it[0] == of_it[1]
        assert len(of_it[0]) == 9
