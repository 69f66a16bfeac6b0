"""The launcher as the service sees it: two sockets on which it takes orders, and a lifeline.

service --lifeline--> keeper --fork--> nursery --exec--> science template
    \\______ control ______________________/                  /
     \\_____ control ________________________________________/
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import anyio
import msgspec

from pool.errors import SandboxStartFailed
from pool.local.environment import ProgramEnvironment
from sandbox_runtime import wire

_HERE = os.path.dirname(os.path.abspath(__file__))
_START = os.path.join(_HERE, "launcher", "start.py")
_RUNTIME = os.path.dirname(os.path.abspath(wire.__file__))

MAX_REPLY_BYTES = 65536


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher is started with."""

    environment: ProgramEnvironment
    preload: tuple[str, ...]
    group_parents: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Steps of the lock-down to leave out. SECURITY: only tests fill it; no setting leads here."""


def program_variables(environment: ProgramEnvironment) -> dict[str, str]:
    """The environment variables of a program, all of them."""
    return {
        "PATH": f"{os.path.dirname(environment.python)}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108  # the sandbox's own; in the workspace a library's cache would be returned as a file
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp/.matplotlib",  # noqa: S108
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


class Control:
    """Orders to one process of the launcher, one at a time, each with its answer."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self._peer = peer
        self._turn = anyio.Lock()

    async def order(self, words: Mapping[str, object], descriptors: Sequence[int] = ()) -> list[int]:
        """Send an order, wait for its answer, return the descriptors that came with it."""
        # One at a time: answers carry no number. Cancelled between the two, the answer would be taken for
        # the next order's, so the wait is shielded; the launcher answers in milliseconds or its socket ends.
        async with self._turn:
            with anyio.CancelScope(shield=True):
                await anyio.wait_writable(self._peer)
                socket.send_fds(self._peer, [json.dumps(words).encode()], list(descriptors))
                return (await self.answer())[1]

    async def answer(self) -> tuple[dict[str, object], list[int]]:
        """The next answer. Raises `SandboxStartFailed` when it is a failure, or the launcher is gone."""
        await anyio.wait_readable(self._peer)
        try:
            data, descriptors, _, _ = socket.recv_fds(self._peer, MAX_REPLY_BYTES, 8)
        except OSError as error:
            raise SandboxStartFailed(f"the launcher's socket failed: {error}", reason="launcher") from error
        if not data:
            raise SandboxStartFailed("the launcher has ended", reason="launcher")
        words: dict[str, object] = json.loads(data)
        if "failed" in words:
            raise SandboxStartFailed(f"the launcher could not: {words['failed']}", reason="launcher")
        return words, descriptors

    def close(self) -> None:
        self._peer.close()


class Launcher:
    """The running launcher. `lost` can be waited for by reading `keeper_pidfd`."""

    def __init__(self, plan: LaunchPlan) -> None:
        self._plan = plan
        self.preloaded: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start it, and return when the template has everything loaded. Raises `SandboxStartFailed`."""
        lifeline_read, self._lifeline = os.pipe()
        nursery_ours, nursery_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        science_ours, science_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        facts = self._facts(lifeline_read, nursery_theirs.fileno(), science_theirs.fileno())
        self._keeper = subprocess.Popen(  # noqa: S603  # our own interpreter and files
            [
                sys.executable,
                "-I",
                "-S",
                _START,
                "keeper",
                _RUNTIME,
                json.dumps(facts),
                json.dumps(self._plan.left_out),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=(lifeline_read, nursery_theirs.fileno(), science_theirs.fileno()),
            env={},
            start_new_session=True,
        )
        os.close(lifeline_read)
        nursery_theirs.close()
        science_theirs.close()
        self.nursery, self.science = Control(nursery_ours), Control(science_ours)
        await self._hear_of_preload(self.science)

    async def renew(self) -> None:
        """Start a new template and use it from now on. Sandboxes of the old one live on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            await self.nursery.order({"do": "template"}, [theirs.fileno()])
        finally:
            theirs.close()
        newer = Control(ours)
        await self._hear_of_preload(newer)
        self.science.close()
        self.science = newer

    async def _hear_of_preload(self, science: Control) -> None:
        words, _ = await science.answer()
        self.preloaded = tuple(words["loaded"])  # type: ignore[arg-type]  # our own template, before any guest

    async def close(self) -> None:
        """End it and everything below it; returns when it is gone."""
        os.close(self._lifeline)
        self.nursery.close()
        self.science.close()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._keeper.wait)

    def has_ended(self) -> bool:
        return self._keeper.poll() is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._keeper.kill()

    def _facts(self, lifeline: int, nursery: int, science: int) -> dict[str, object]:
        environment, plan = self._plan.environment, self._plan
        science_facts = {
            "as_root": os.geteuid() == 0,
            "trees": environment.trees,
            "font_lists": environment.font_lists,
            "preload": plan.preload,
            "environment": program_variables(environment),
        }
        return {
            "as_root": os.geteuid() == 0,
            "lifeline": lifeline,
            "nursery_control": nursery,
            "science_control": science,
            "group_parents": plan.group_parents,
            "science_command": [
                environment.python,
                _START,
                "science",
                _RUNTIME,
                json.dumps(science_facts),
                json.dumps(plan.left_out),
            ],
            "science_environment": program_variables(environment),
        }
