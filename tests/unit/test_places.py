"""Wiping what an enemy made, as an ordinary user: root would walk through closed doors."""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox_runtime import cleaning, places
from tests.unit.confined import ORDINARY_UID

DEEP, MANY, PATIENT = 5000, 20_000, 60.0


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of an ordinary user's, and a file of theirs beside it that is none of the wiping's business."""
    beside = Path(tempfile.mkdtemp(prefix="places-", dir="/tmp"))
    folder = beside / "place"
    folder.mkdir()
    (beside / "outside").write_text("outside")
    if os.geteuid() == 0:
        for path in (beside, folder, beside / "outside"):
            os.chown(path, ORDINARY_UID, ORDINARY_UID)
    yield folder
    places.wipe(str(beside), time.monotonic() + PATIENT)  # nothing else goes as deep
    beside.rmdir()


def as_ordinary(place: Path, body: Callable[[], Any]) -> Any:
    """What the body returns, in a child in that place that is nobody special."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _do(place, body, writing)
    os.close(writing)
    with open(reading, "rb") as answer:
        said = json.loads(answer.read())
    os.waitpid(pid, 0)
    assert "failed" not in said, said
    return said["returned"]


def _do(place: Path, body: Callable[[], Any], writing: int) -> None:
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
            os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
        os.chdir(place)
        said = {"returned": body()}
    except BaseException as error:  # the parent's code must not go on in this process
        said = {"failed": f"{type(error).__name__}: {error}"}
    os.write(writing, json.dumps(said).encode())
    os._exit(0)


def touch(*names: str | bytes) -> None:
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))


# --- trees: each makes one in the current folder, and returns how many entries it has


def closed_folders() -> int:
    os.makedirs("a/b/c")
    os.makedirs("d/e")
    touch("a/b/c/file", "a/b/file", "a/file")
    for path in ("a/b/c/file", "a/b/c", "a/b", "a", "d/e", "d"):
        os.chmod(path, 0)
    return 8


def folders_that_may_be_read_and_not_written() -> int:
    os.makedirs("a/b/c")
    touch("a/b/file")
    for path in ("a/b/c", "a/b", "a"):
        os.chmod(path, 0o555)
    return 4


def folders_that_may_be_written_and_not_read() -> int:
    os.makedirs("a/b")
    touch("a/b/file")
    os.chmod("a/b", 0o333)
    os.chmod("a", 0o333)
    return 3


def a_deep_nest() -> int:
    for _ in range(DEEP):
        os.mkdir("n")
        os.chdir("n")
    touch("bottom")
    return DEEP + 1


def a_deep_nest_closed_at_every_level() -> int:
    folder = os.open(".", os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("n", dir_fd=folder)
        below = os.open("n", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    for _ in range(DEEP):
        above = os.open("..", os.O_RDONLY, dir_fd=folder)
        os.fchmod(folder, 0)
        os.close(folder)
        folder = above
    return DEEP


def many_files() -> int:
    os.mkdir("folder")
    touch(*(f"{number}" for number in range(MANY // 2)))
    touch(*(f"folder/{number}" for number in range(MANY // 2)))
    return MANY + 1


def many_folders_in_folders() -> int:
    for number in range(500):
        os.makedirs(f"{number}/a/b")
    return 1500


def names_of_all_kinds() -> int:
    names = [
        b"n" * 255,
        b"\xff\xfe\x80",
        b"-rf",
        b"*",
        b" ",
        b"new\nline",
        b"...",
        "Ünïcode".encode(),
        b"\x01",
        b"a\\b",
    ]
    for name in names:
        os.mkdir(name)
        touch(name + b"/" + name)
    return 2 * len(names)


def links_out() -> int:
    os.symlink("../outside", "file")
    os.symlink("..", "folder")
    os.symlink("/", "root")
    os.symlink("itself", "itself")
    os.mkdir("below")
    os.symlink("../..", "below/out")
    os.symlink("nowhere", "below/nowhere")
    return 7


def hard_links() -> int:
    touch("one")
    os.mkdir("below")
    os.link("one", "two")
    os.link("one", "below/three")
    with suppress(PermissionError):  # protected_hardlinks does not mind: it is our own
        os.link("../outside", "below/outside")
    return 5


def what_is_no_file() -> int:
    os.mkdir("below")
    for folder in (".", "below"):
        os.mkfifo(f"{folder}/fifo", 0)
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(f"{folder}/socket")
    return 5


def names_that_wiping_uses_itself() -> int:
    os.makedirs(".wiped-1/x/y")
    touch(".wiped-2", ".wiped-1/.wiped-3")
    os.makedirs(".wiped-4")  # empty: a folder that is moved takes its place
    os.makedirs(".wiped-1/.wiped-1/.wiped-1")
    os.makedirs("a/.wiped-5/.wiped-6")
    return 11


def all_the_names_that_wiping_uses_itself() -> int:
    for number in range(2000):
        os.makedirs(f".wiped-{number}/in-the-way")
    return 4000


def large_files() -> int:
    for name in ("a", "b"):
        touch(name)
        os.truncate(name, 1 << 42)
    return 2


def odd_modes() -> int:
    os.mkdir("sticky")
    touch("sticky/file")
    os.chmod("sticky", 0o1777)
    os.mkdir("setgid")
    os.chmod("setgid", 0o2070)
    touch("setuid")
    os.chmod("setuid", 0o4111)
    return 4


def a_place_that_is_closed_itself() -> int:
    touch("file")
    os.chmod(".", 0)
    return 1


TREES = [
    closed_folders,
    folders_that_may_be_read_and_not_written,
    folders_that_may_be_written_and_not_read,
    a_deep_nest,
    a_deep_nest_closed_at_every_level,
    many_files,
    many_folders_in_folders,
    names_of_all_kinds,
    links_out,
    hard_links,
    what_is_no_file,
    names_that_wiping_uses_itself,
    all_the_names_that_wiping_uses_itself,
    large_files,
    odd_modes,
    a_place_that_is_closed_itself,
]


@pytest.mark.parametrize("tree", TREES, ids=[tree.__name__ for tree in TREES])
def test_whatever_was_made_is_wiped_in_time(place: Path, tree: Callable[[], int]):
    def body() -> list[Any]:
        made = tree()
        began = time.process_time()
        wiped = places.wipe(str(place), time.monotonic() + PATIENT)
        return [made, wiped, time.process_time() - began, os.listdir(place)]

    made, wiped, cpu_seconds, left = as_ordinary(place, body)
    assert left == []
    # A folder that takes the place of an empty one is one entry less.
    assert wiped == made or (tree is names_that_wiping_uses_itself and wiped in (made, made - 1))
    assert cpu_seconds < cleaning.WIPE_SECONDS
    assert (place.parent / "outside").read_text() == "outside"
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_empty_is_wiped_and_counts_nothing(place: Path):
    assert as_ordinary(place, lambda: places.wipe(str(place), time.monotonic() + PATIENT)) == 0


# --- no end, no way


def wiped_too_slowly(place: Path, until: float) -> str:
    try:
        return f"wiped {places.wipe(str(place), until)}"
    except places.TooSlow as error:
        return str(error)


@pytest.mark.parametrize("tree", [a_deep_nest, many_folders_in_folders])
def test_there_is_no_more_time_than_it_is_given(place: Path, tree: Callable[[], int]):
    def body() -> list[Any]:
        tree()
        began = time.monotonic()
        return [wiped_too_slowly(place, began + 0.002), time.monotonic() - began, len(os.listdir(place))]

    said, seconds, left = as_ordinary(place, body)
    assert said.endswith("entries were wiped in the time there was, and more are left")
    assert seconds < 0.5
    assert left > 0


def test_a_folder_that_cannot_be_moved_takes_no_more_time_than_there_is(place: Path):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTEMPTY, "in the way")

    def body() -> str:
        os.makedirs("a/b")
        os.rename = refuse  # in this child alone
        return wiped_too_slowly(place, time.monotonic() + 0.02)

    assert as_ordinary(place, body).startswith("0 entries were wiped")


def test_a_link_in_the_place_of_the_place_is_not_followed(place: Path):
    def body() -> str:
        touch("kept")
        os.symlink(place, "../link")
        try:
            places.wipe("../link", time.monotonic() + PATIENT)
        except OSError as error:
            return f"{errno.errorcode[error.errno or 0]} {os.listdir('.')}"
        return "wiped"

    assert as_ordinary(place, body) in ("ENOTDIR ['kept']", "ELOOP ['kept']")


# --- what a place is like


def test_nothing_is_different_from_itself(place: Path):
    (place / "one").touch()
    assert places.State(str(place)).differences(places.State(str(place))) == []


def test_what_is_different_is_named(place: Path):
    def body() -> list[str]:
        before = places.State(str(place))
        os.chmod(".", 0o711)
        touch("one")
        os.utime(".", (5, 6))
        return places.State(str(place)).differences(before)

    assert set(as_ordinary(place, body)) >= {"mode", "times", "entries"}


@pytest.mark.skipif(os.geteuid() != 0, reason="this machine gives no second id to who is not root")
def test_another_owner_is_named(place: Path):
    before = places.State(str(place))
    for ids in ((ORDINARY_UID, 0), (0, ORDINARY_UID)):
        os.chown(place, *ids)
        assert "owner" in places.State(str(place)).differences(before)


def test_the_content_of_a_folder_that_may_not_be_set_is_compared_all_the_same(place: Path):
    before = places.State(str(place))
    (place / "folder").mkdir()
    (place / "folder/file").touch()
    found = [entry[0] for entry in places.State(str(place)).entries if entry not in before.entries]
    assert found == [f"{place}/folder", f"{place}/folder/file"]


def test_mode_and_times_are_turned_back(place: Path):
    def body() -> list[str]:
        before = places.State(str(place))
        touch("one")
        os.utime(".", (5, 6))
        os.chmod(".", 0o070)
        places.wipe(str(place), time.monotonic() + PATIENT)
        places.restore(str(place), before)
        places.turn_back(str(place), before)
        return [name for name in places.State(str(place)).differences(before) if not name.startswith("used")]

    assert as_ordinary(place, body) == []


def test_attributes_are_set_back_to_their_values(place: Path):
    def body() -> list[str]:
        os.setxattr(".", "user.kept", b"1")
        before = places.State(str(place))
        os.setxattr(".", "user.kept", b"2")
        os.setxattr(".", "user.new", b"3")
        changed = places.State(str(place)).differences(before)
        places.restore(str(place), before)
        return [*changed, "then", *places.State(str(place)).differences(before)]

    if not _takes_attributes(place):
        pytest.skip("this machine gives no attributes to files below /tmp")
    changed = as_ordinary(place, body)
    assert "attributes" in changed[: changed.index("then")]
    assert "attributes" not in changed[changed.index("then") :]


def _takes_attributes(place: Path) -> bool:
    with suppress(OSError):
        os.setxattr(place, "user.try", b"")
        os.removexattr(place, "user.try")
        return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="this machine gives no folder of another owner's to who is not root")
def test_a_place_of_another_owner_is_compared_and_left_alone(place: Path):
    os.chown(place, 0, 0)
    os.chmod(place, 0o777)

    def body() -> list[Any]:
        before = places.State(str(place))
        touch("one")
        assert places.wipe(str(place), time.monotonic() + PATIENT) == 1
        places.restore(str(place), before)
        places.turn_back(str(place), before)
        return [name for name in places.State(str(place)).differences(before) if not name.startswith("used")]

    assert as_ordinary(place, body) == []
