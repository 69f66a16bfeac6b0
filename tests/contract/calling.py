"""The broker's side of a session, over the wire."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from pool import RunLimits
from sandbox_runtime import wire
from tests.contract.dialogue import Dialogue, Speaking

LIMITS = RunLimits(workspace_bytes=4 * 2**20, inodes=100, processes=40, output_kill_bytes=4 * 2**20, loopback=1)
FOR_LONG_MS = 600_000


class Calling:
    """The broker's side of a session."""

    def __init__(self, speaks: Dialogue) -> None:
        self.speaks = speaks
        self._numbers = itertools.count(1)

    def begin(self, command: str, *, timeout_ms: int = 10_000, wait_ms: int = FOR_LONG_MS) -> str:
        run = f"call-{next(self._numbers)}"
        self.speaks.say(
            wire.Stage(target="command", path="", data=command.encode(), last=True),
            wire.Shell(timeout_ms=timeout_ms, wait_ms=wait_ms),
            run=run,
        )
        return run

    def end(self, run: str) -> tuple[wire.Outcome, str, str]:
        """Its outcome, and what it has printed."""
        printed = {"stdout": b"", "stderr": b""}
        while True:
            heard = self.speaks.hear()
            assert heard is not None, printed
            assert heard[0] == run
            if isinstance(heard[1], wire.Outcome):
                return heard[1], printed["stdout"].decode(), printed["stderr"].decode()
            assert isinstance(heard[1], wire.Output)
            printed[heard[1].stream] += heard[1].data

    def bash(self, command: str, *, timeout_ms: int = 10_000) -> tuple[int | None, str]:
        ended, stdout, _ = self.end(self.begin(command, timeout_ms=timeout_ms))
        return ended.exit_code, stdout


@contextmanager
def opened(broker: Speaking, *, ttl_ms: int = FOR_LONG_MS, loopback: bool = False) -> Iterator[Calling]:
    with broker.greeted() as speaks:
        speaks.say(wire.Session(ttl_ms=ttl_ms, proof="", loopback=loopback), run="")
        heard = speaks.hear()
        assert heard is not None
        assert isinstance(heard[1], wire.Opened)
        assert ttl_ms - 10_000 < heard[1].left_ms <= ttl_ms
        yield Calling(speaks)
