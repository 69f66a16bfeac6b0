from __future__ import annotations

import anyio

from pool.program import Stream


class KeepingSink:
    """Keeps what it is given, in order."""

    def __init__(self) -> None:
        self.streams: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.files: dict[str, bytes] = {}
        self.finished: list[str] = []

    async def output(self, stream: Stream, data: bytes) -> None:
        self.streams[stream] += data

    async def file(self, path: str, data: bytes, last: bool) -> None:
        self.files[path] = self.files.get(path, b"") + data
        if last:
            self.finished.append(path)


class SlowSink(KeepingSink):
    """Takes its time for every piece."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def output(self, stream: Stream, data: bytes) -> None:
        await anyio.sleep(self._seconds)
        await super().output(stream, data)


class FailingSink(KeepingSink):
    """The caller's own trouble: a store that is full."""

    async def output(self, stream: Stream, data: bytes) -> None:
        raise OSError(28, "No space left on device")
