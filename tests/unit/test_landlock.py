from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_runtime import landlock
from tests.unit import confined

KERNEL_ABI = landlock.abi()
as_each = pytest.mark.parametrize("identity", confined.IDENTITIES)
where_there_is_landlock = pytest.mark.skipif(
    KERNEL_ABI < landlock.OLDEST_USED_ABI, reason=f"this kernel has no Landlock to use (ABI {KERNEL_ABI})"
)

# All in one folder that an ordinary user may write in: read and write are rules, outside has none.
SETUP = """
    os.chdir(arguments[0])
    for folder in ("read", "write", "write/sub", "outside"):
        os.mkdir(folder)
        with open(f"{folder}/file", "w") as file:
            file.write("#!/bin/sh\\nexit 5\\n")
        os.chmod(f"{folder}/file", 0o755)
    def prepared():
        here = os.getcwd()
        return landlock.prepare(
            readable=["/usr", "/bin", "/lib", "/etc", f"{here}/read"],
            writable=[f"{here}/write"],
            files=[("/dev/null", landlock.WRITABLE_FILE), ("/dev/urandom", landlock.READABLE_FILE)],
        )
    def restricted():
        kernel.set_no_new_privs()
        return landlock.restrict(prepared())
"""

FILES = """
    if arguments[1]:
        restricted()
    def bound(path):
        socket.socket(socket.AF_UNIX).bind(path)
    answer({
        "read": attempt(open, "read/file"),
        "list": attempt(os.listdir, "read"),
        "execute": attempt(os.spawnv, os.P_WAIT, "read/file", ["file"]),
        "read /dev/urandom": attempt(open, "/dev/urandom", "rb"),
        "write /dev/null": attempt(open, "/dev/null", "wb"),
        "write": attempt(open, "write/file", "w"),
        "make": attempt(open, "write/new", "w"),
        "make folder": attempt(os.mkdir, "write/folder"),
        "symlink": attempt(os.symlink, "/etc/passwd", "write/symlink"),
        "hard link": attempt(os.link, "write/file", "write/sub/linked"),
        "rename": attempt(os.rename, "write/new", "write/sub/renamed"),
        "truncate": attempt(os.truncate, "write/file", 0),
        "remove": attempt(os.unlink, "write/sub/renamed"),
        "socket": attempt(bound, "write/socket"),
        "write to read": attempt(open, "read/file", "a"),
        "make in read": attempt(open, "read/new", "w"),
        "truncate in read": attempt(os.truncate, "read/file", 0),
        "remove in read": attempt(os.unlink, "read/file"),
        "write /dev/urandom": attempt(open, "/dev/urandom", "wb"),
        "read outside": attempt(open, "outside/file"),
        "list outside": attempt(os.listdir, "outside"),
        "execute outside": attempt(subprocess.call, ["outside/file"]),
        "make outside": attempt(open, "outside/new", "w"),
        "link in": attempt(os.link, "outside/file", "write/outside"),
        "read by symlink": attempt(lambda: (os.symlink("../outside/file", "write/out"), open("write/out"))),
        "fifo": attempt(os.mkfifo, "write/fifo"),
    })
"""

ALLOWED = (
    *("read", "list", "execute", "read /dev/urandom", "write /dev/null", "write", "make", "make folder", "symlink"),
    *("hard link", "rename", "truncate", "remove", "socket"),
)
DENIED = (
    *("write to read", "make in read", "remove in read", "write /dev/urandom", "read outside", "list outside"),
    *("execute outside", "make outside", "read by symlink", "fifo"),
    *(("truncate in read",) if KERNEL_ABI >= 3 else ()),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Everybody's, and not below pytest's own folder, which an ordinary user may not enter."""
    path = Path(tempfile.mkdtemp(prefix="landlock-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@where_there_is_landlock
@as_each
def test_files(folder: Path, identity: int | None):
    answer = confined.answer_of(FILES, str(folder), True, identity=identity, setup=SETUP)
    assert {name: answer[name] for name in ALLOWED} == dict.fromkeys(ALLOWED, "done")
    assert {name: answer[name] for name in DENIED} == dict.fromkeys(DENIED, "EACCES")
    assert answer["link in"] in ("EXDEV", "EACCES")


@as_each
def test_without_it_the_same_user_may_do_all_of_that(folder: Path, identity: int | None):
    answer = confined.answer_of(FILES, str(folder), False, identity=identity, setup=SETUP)
    # Linked into the writable folder, then removed from the readable one: nothing of it fails.
    assert answer == dict.fromkeys(answer, "done")


OUTSIDERS = """
    victim = sleeper()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\\0landlock-{os.getpid()}")
    listener.listen()
    on_disk = socket.socket(socket.AF_UNIX)
    on_disk.bind("write/listener")
    on_disk.listen()
    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 0))
    tcp.listen()
    device = os.open("/dev/null", os.O_RDWR)
    child = os.fork()
    if child == 0:
        if arguments[1]:
            restricted()
        own = socket.socket(socket.AF_UNIX)
        own.bind(f"\\0landlock-own-{os.getpid()}")
        own.listen()
        answer({
            "signal": attempt(os.kill, victim, 0),
            "abstract socket": attempt(socket.socket(socket.AF_UNIX).connect, listener.getsockname()),
            "own abstract socket": attempt(socket.socket(socket.AF_UNIX).connect, own.getsockname()),
            "pathname socket": attempt(socket.socket(socket.AF_UNIX).connect, "write/listener"),
            "tcp": attempt(socket.socket().connect, tcp.getsockname()),
            "own process": attempt(os.kill, sleeper(), signal.SIGKILL),
            "memory": attempt(open, f"/proc/{victim}/mem", "rb"),
        })
        os._exit(0)
    os.waitpid(child, 0)
    os.kill(victim, signal.SIGKILL)
"""


def outsiders_with(kernel_abi: int) -> dict[str, str]:
    scoped = "EPERM" if kernel_abi >= 6 else "done"
    return {
        "signal": scoped,
        "abstract socket": scoped,
        "own abstract socket": "done",
        "pathname socket": "EACCES" if kernel_abi >= 9 else "done",
        "tcp": "EACCES" if kernel_abi >= 4 else "done",
        "own process": "done",
        "memory": "EACCES",
    }


@where_there_is_landlock
@as_each
def test_processes_outside_are_out_of_reach(folder: Path, identity: int | None):
    answer = confined.answer_of(OUTSIDERS, str(folder), True, identity=identity, setup=SETUP)
    assert answer == outsiders_with(KERNEL_ABI)


@as_each
def test_without_it_they_are_in_reach(folder: Path, identity: int | None):
    answer = confined.answer_of(OUTSIDERS, str(folder), False, identity=identity, setup=SETUP)
    assert answer == dict.fromkeys(answer, "done")


@where_there_is_landlock
@as_each
def test_one_set_of_rules_serves_many_children_and_none_can_change_it(folder: Path, identity: int | None):
    source = """
        kernel.set_no_new_privs()
        ruleset = prepared()
        for _ in range(2):
            child = os.fork()
            if child == 0:
                landlock.restrict(ruleset)
                outside = attempt(open, "outside/file")
                closed = attempt(os.fstat, ruleset.descriptor)
                os._exit(0 if (outside, closed) == ("EACCES", "EBADF") else 1)
            assert os.waitpid(child, 0)[1] == 0
        answer(attempt(open, "outside/file"))
    """
    assert confined.answer_of(source, str(folder), identity=identity, setup=SETUP) == "done"


@where_there_is_landlock
@as_each
def test_it_does_not_apply_without_no_new_privs_or_a_capability(folder: Path, identity: int | None):
    source = """
        capabilities.clear()
        try:
            landlock.restrict(prepared())
        except OSError as error:
            answer([error.errno, str(error)])
    """
    number, text = confined.answer_of(source, str(folder), identity=identity, setup=SETUP)
    assert number == 1
    assert "needs no_new_privs" in text


@where_there_is_landlock
def test_what_was_applied_is_told(folder: Path):
    answer = confined.answer_of("answer(restricted())", str(folder), setup=SETUP)
    assert answer == {
        "abi": KERNEL_ABI,
        "files": landlock.known(landlock.FILE_RIGHTS, KERNEL_ABI),
        "network": landlock.known(landlock.NETWORK_RIGHTS, KERNEL_ABI),
        "scopes": landlock.known(landlock.SCOPES, KERNEL_ABI),
    }


@where_there_is_landlock
def test_what_was_left_to_others_is_not_told_as_applied():
    source = """
        kernel.set_no_new_privs()
        answer(landlock.restrict(landlock.prepare(readable=["/usr"], scoped=False, networked=True)))
    """
    answer = confined.answer_of(source)
    assert answer == {
        "abi": KERNEL_ABI,
        "files": landlock.known(landlock.FILE_RIGHTS, KERNEL_ABI),
        "network": 0,
        "scopes": 0,
    }


@where_there_is_landlock
def test_a_folder_that_is_not_there_is_named_and_nothing_stays_open():
    source = """
        before = os.listdir("/proc/self/fd")
        try:
            landlock.prepare(readable=["/nowhere"])
        except FileNotFoundError as error:
            answer([error.filename, os.listdir("/proc/self/fd") == before])
    """
    assert confined.answer_of(source) == ["/nowhere", True]


@pytest.mark.parametrize(
    ("kernel_abi", "files", "network", "scopes"),
    [
        (0, 0, 0, 0),
        (1, 0x1FFF, 0, 0),
        (2, 0x3FFF, 0, 0),
        (3, 0x7FFF, 0, 0),
        (4, 0x7FFF, 3, 0),
        (5, 0xFFFF, 3, 0),
        *((abi, 0xFFFF, 3, 3) for abi in (6, 7, 8)),
        *((abi, 0x1FFFF, 3, 3) for abi in (9, 10, 99)),
    ],
)
def test_each_kernel_is_asked_only_for_what_it_knows(kernel_abi: int, files: int, network: int, scopes: int):
    tables = (landlock.FILE_RIGHTS, landlock.NETWORK_RIGHTS, landlock.SCOPES)
    assert tuple(landlock.known(table, kernel_abi) for table in tables) == (files, network, scopes)


@pytest.mark.parametrize("kernel_abi", [0, 1])
def test_a_kernel_that_would_break_renames_counts_as_without(monkeypatch: pytest.MonkeyPatch, kernel_abi: int):
    monkeypatch.setattr(landlock, "abi", lambda: kernel_abi)
    with pytest.raises(OSError, match=f"Landlock ABI {kernel_abi}, need 2"):
        landlock.prepare()


def test_no_rule_lets_devices_fifos_or_ioctls_on_devices_through():
    never = landlock.MAKE_CHAR | landlock.MAKE_BLOCK | landlock.MAKE_FIFO | landlock.IOCTL_DEV | landlock.RESOLVE_UNIX
    assert (landlock.WRITABLE_TREE | landlock.READABLE_TREE | landlock.WRITABLE_FILE) & never == 0
