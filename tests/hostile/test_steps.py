"""The lock-down is a list of steps. Without those that stop it an attack succeeds; each of them alone stops it."""

from __future__ import annotations

import ctypes
import glob
import os
import secrets
import shutil
import socket
import tempfile
import textwrap
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import msgspec
import pytest

from pool import SandboxLost
from pool.local import level, probe
from sandbox_runtime import lockdown
from tests.hostile.aftermath import Estate, opened
from tests.hostile.attack import run
from tests.hostile.lockdown_attacks import ALL, FORGED_STATUS, WITHOUT_AN_ATTACK, Attack, Won
from tests.sandboxes import Sandboxes
from tests.unit import confined

IPC_CREAT, IPC_EXCL = 0o1000, 0o2000
EACH_ALONE = [(name, step) for name, attack in ALL.items() for step in attack.stopped_by]


class Host(msgspec.Struct, kw_only=True):
    """Things of this machine that a program may be after, made for this test."""

    secret: str
    port: int
    abstract: str
    shared_memory: int
    name: str
    cgroup_namespace: str
    folder: str
    file: str
    closed_file: str
    setuid: str


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    secret, key = secrets.token_hex(8), secrets.randbelow(1 << 30) + 1
    with ExitStack() as undo:
        listener = undo.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = undo.enter_context(closing(socket.socket(socket.AF_UNIX)))
        abstract.bind(f"\0hostile-{secret}")
        abstract.listen()
        _share_memory(key, secret, undo)
        folder = tempfile.mkdtemp(dir="/var/tmp")
        undo.callback(shutil.rmtree, folder)
        _programs(folder)
        yield Host(
            secret=secret,
            port=listener.getsockname()[1],
            abstract=f"hostile-{secret}",
            shared_memory=key,
            name=socket.gethostname(),
            cgroup_namespace=os.readlink("/proc/self/ns/cgroup"),
            folder=folder,
            file=_file(folder, "open", secret, 0o644),
            closed_file=_file(folder, "closed", secret, 0o600),
            setuid=_setuid_program(folder),
        )


def _share_memory(key: int, text: str, undo: ExitStack) -> None:
    """A System V segment that everybody on this machine may read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    number = libc.shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0o644)
    assert number >= 0, os.strerror(ctypes.get_errno())
    undo.callback(libc.shmctl, number, 0, None)
    ctypes.memmove(libc.shmat(number, None, 0), text.encode(), len(text))


def _file(folder: str, name: str, text: str, mode: int) -> str:
    os.chmod(folder, 0o755)
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def _programs(folder: str) -> None:
    """An environment for programs with one library, which sets a variable when it is imported."""
    place = os.path.join(folder, "programs")
    venv.create(place, symlinks=True)
    [packages] = glob.glob(f"{place}/lib/python*/site-packages")
    _file(packages, "planted.py", "import os\nos.environ['PLANTED'] = 'by a library'\n", 0o644)


def _setuid_program(folder: str) -> str:
    path = shutil.copy("/usr/bin/id", folder)
    os.chmod(path, 0o4755)
    return path


@contextmanager
def without(steps: Sequence[str], host: Host) -> Iterator[Estate]:
    """A pool whose sandboxes lack some steps, and are shown the host's folder."""
    with opened(left_out=steps, trees=[host.folder], programs=f"{host.folder}/programs", preload=["planted"]) as estate:
        yield estate


@pytest.fixture(scope="module")
def estate(host: Host) -> Iterator[Estate]:
    with without([], host) as estate:
        yield estate


def succeeds(boxes: Sandboxes, attack: Attack, host: Host) -> bool:
    source = "host = json.loads(sys.argv[1])\n" + textwrap.dedent(attack.source)
    try:
        result = run(boxes, source, msgspec.json.encode(host).decode(), timeout_ms=6000)
    except SandboxLost:
        return attack.won is Won.SANDBOX_LOST
    return {
        Won.SAYS_SO: result.stdout == "true\n",
        Won.SANDBOX_LOST: False,
        Won.FORGED: result.exit_code == FORGED_STATUS,
    }[attack.won]


@pytest.mark.parametrize("name", ALL)
def test_with_every_step_the_attack_fails(boxes: Sandboxes, host: Host, name: str):
    assert not succeeds(boxes, ALL[name], host)


@pytest.mark.parametrize("name", ALL)
def test_without_the_steps_that_stop_it_the_attack_succeeds(host: Host, name: str):
    attack = ALL[name]
    with without([*attack.stopped_by, *attack.out_too], host) as estate:
        assert succeeds(estate.boxes, attack, host)


@pytest.mark.parametrize(("name", "step"), EACH_ALONE)
def test_each_of_these_steps_stops_it_alone(host: Host, name: str, step: str):
    if step == "landlock" and "Landlock" in level(probe()).missing:
        pytest.skip("this kernel has no Landlock")
    attack = ALL[name]
    others = [other for other in (*attack.stopped_by, *attack.out_too) if other != step]
    with without(others, host) as estate:
        assert not succeeds(estate.boxes, attack, host)


def test_every_step_stops_an_attack():
    stopping = {step for attack in ALL.values() for step in attack.stopped_by}
    assert stopping | set(WITHOUT_AN_ATTACK) == set(lockdown.STEPS)
    assert not stopping & set(WITHOUT_AN_ATTACK)


KILL_A_STRANGER = """
    victim = sleeper()
    identity = os.getuid()
    namespaces.unshare(namespaces.CLONE_NEWUSER | (namespaces.CLONE_NEWPID if arguments[0] else 0))
    attacker = os.fork()
    if attacker == 0:
        os._exit(attempt(os.kill, victim, signal.SIGKILL) == "done")
    succeeded = os.waitstatus_to_exitcode(os.waitpid(attacker, 0)[1])
    answer([bool(succeeded), os.waitpid(victim, 0 if succeeded else os.WNOHANG)[0] == victim])
"""


@pytest.mark.parametrize("identity", confined.IDENTITIES)
def test_a_process_of_the_same_uid_is_safe_in_another_pid_namespace_only(identity: int | None):
    assert confined.answer_of(KILL_A_STRANGER, False, identity=identity) == [True, True]
    assert confined.answer_of(KILL_A_STRANGER, True, identity=identity) == [False, False]
