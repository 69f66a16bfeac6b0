"""The first program of every generation: ours, through the real path, with its results compared.

A sandbox that says hello may still be unable to run anything: no workspace, no interpreter, a lock-down
that is too tight. Whoever becomes warm after this one has been shown to work.
"""

from __future__ import annotations

import anyio

from pool.conversation import Conversation
from pool.errors import RemoteProtocolError, SandboxLost, SandboxStartFailed
from pool.program import Program, Stream

MARK = "warm"
FILE = "canary.txt"

PROGRAM = Program(
    code=f'print(input())\nwith open("{FILE}", "w") as file:\n    file.write("{MARK}")\n',
    stdin=MARK + "\n",
    last_line_interactive=False,
    timeout_ms=10_000,
)

DEADLINE_SECONDS = 15.0
"""Longer than the program may take. A shorter time allowed for the whole start ends it sooner."""

EXPECTED_OUTPUT = {"stdout": (MARK + "\n").encode(), "stderr": b""}
EXPECTED_FILES = {FILE: MARK.encode()}


class Kept:
    """A sink that keeps everything: a canary makes next to nothing, and the transcript bounds it."""

    def __init__(self) -> None:
        self.streams = {"stdout": b"", "stderr": b""}
        self.files: dict[str, bytes] = {}

    async def output(self, stream: Stream, data: bytes) -> None:
        self.streams[stream] += data

    async def file(self, path: str, data: bytes, last: bool) -> None:
        self.files[path] = self.files.get(path, b"") + data


async def prove(conversation: Conversation) -> None:
    """Run it. Raises `SandboxStartFailed` when anything is not as it should be."""
    kept = Kept()
    try:
        outcome = await conversation.run(PROGRAM, (), kept, anyio.current_time() + DEADLINE_SECONDS)
    except (RemoteProtocolError, SandboxLost) as error:
        raise SandboxStartFailed(f"the canary came to nothing: {error}", reason="canary") from error
    if outcome.exit_code == 0 and kept.streams == EXPECTED_OUTPUT and kept.files == EXPECTED_FILES:
        return
    said = kept.streams["stderr"].decode(errors="replace")[-200:]
    numbers = f"exit code {outcome.exit_code} ({outcome.reason}), {len(kept.files)} files"
    raise SandboxStartFailed(f"the canary ended wrongly: {numbers}; it said {said!r}", reason="canary")
