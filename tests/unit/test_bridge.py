"""A bridge ends with either side, and does not wait for ever for one that takes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.source_tree import ROOT

BE = """
import sys
from sandbox_runtime import outbox, pod
from sandbox_runtime.pod import bridge
pod.SUPERVISOR_NAME, bridge.STALLED_SECONDS = "\\0" + sys.argv[1], int(sys.argv[2])
bridge.be(outbox.Channel(0, 1))
"""

ENDS_SECONDS = 60
"""For a test that fails."""


@contextmanager
def bridge(stalled_seconds: int = ENDS_SECONDS) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """One, and the supervisor's end of it."""
    name = f"code-interpreter/test-{os.getpid()}"
    command = [sys.executable, "-c", BE, name, str(stalled_seconds)]
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("\0" + name)
        door.listen(1)
        environment = {"PYTHONPATH": str(ROOT / "sandbox-runtime")}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
            connection, _ = door.accept()
            try:
                yield process, connection
            finally:
                connection.close()
                process.kill()


def test_it_carries_both_ways_and_ends_with_the_supervisor():
    with bridge() as (process, supervisor):
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"asked")
        process.stdin.flush()
        assert supervisor.recv(5) == b"asked"
        supervisor.sendall(b"answered")
        assert process.stdout.read(8) == b"answered"
        supervisor.close()
        assert process.wait(ENDS_SECONDS) == 0


def test_it_ends_with_its_exec():
    with bridge() as (process, supervisor):
        assert process.stdin
        process.stdin.close()
        assert supervisor.recv(1) == b""
        assert process.wait(ENDS_SECONDS) == 0


def test_it_ends_when_nobody_takes_what_it_carries():
    with bridge(stalled_seconds=1) as (process, supervisor):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                supervisor.sendall(b"x" * 65536)
        assert process.wait(ENDS_SECONDS) == -signal.SIGALRM
