"""The lock-down is a list of steps. Without all the steps that stop it an attack succeeds; each of them alone stops it."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing

import msgspec
import pytest

from pool import RunLimits, SandboxError
from pool.local import level, probe
from sandbox_runtime import lockdown
from tests.hostile import lockdown_attacks
from tests.hostile.aftermath import Estate, opened
from tests.hostile.attack import run
from tests.hostile.lockdown_attacks import ALL, AS_ROOT, WITHOUT_AN_ATTACK, Attack
from tests.sandboxes import Sandboxes

FORGED_STATUS = 77
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


def _setuid_program(folder: str) -> str:
    path = shutil.copy("/usr/bin/id", folder)
    os.chmod(path, 0o4755)
    return path


@pytest.fixture(scope="module")
def estate(limits: RunLimits, host: Host) -> Iterator[Estate]:
    """With every step, and the host's folder shown in the sandbox."""
    with opened(limits=limits, trees=[host.folder]) as estate:
        yield estate


def succeeds(boxes: Sandboxes, attack: Attack, host: Host) -> bool:
    words = msgspec.json.encode(host).decode()
    try:
        result = run(boxes, f"host = json.loads({words!r})\n" + _flush(attack.source), timeout_ms=5000)
    except SandboxError:  # the supervisor is dead
        return True
    return result.stdout == "true\n" or result.exit_code == FORGED_STATUS


def _flush(source: str) -> str:
    import textwrap

    return textwrap.dedent(source)


@pytest.mark.parametrize("name", ALL)
def test_with_every_step_the_attack_fails(boxes: Sandboxes, host: Host, name: str):
    assert not succeeds(boxes, ALL[name], host)


@pytest.mark.parametrize("name", ALL)
def test_without_the_steps_that_stop_it_the_attack_succeeds(host: Host, name: str):
    attack = ALL[name]
    with opened(left_out=[*attack.stopped_by, *attack.out_too], trees=[host.folder]) as estate:
        assert succeeds(estate.boxes, attack, host)


@pytest.mark.parametrize(("name", "step"), EACH_ALONE)
def test_each_of_these_steps_stops_it_alone(host: Host, name: str, step: str):
    if step == "landlock" and "Landlock" in level(probe()).missing:
        pytest.skip("this kernel has no Landlock")
    attack = ALL[name]
    others = [other for other in (*attack.stopped_by, *attack.out_too) if other != step]
    with opened(left_out=others, trees=[host.folder]) as estate:
        assert not succeeds(estate.boxes, attack, host)


def test_every_step_stops_an_attack():
    stopping = {step for attack in ALL.values() for step in attack.stopped_by}
    assert stopping | set(WITHOUT_AN_ATTACK) == set(lockdown.STEPS)
    assert not stopping & set(WITHOUT_AN_ATTACK)
