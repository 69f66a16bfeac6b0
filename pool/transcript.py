"""What a sandbox may say during one run: the order of its frames, and how much of each kind. Pure.

SECURITY: the guest may own the supervisor. Whatever it says, the broker takes no more than the limits
that it set itself, in an order that leaves nothing open (tests/unit/test_transcript.py).

    refused | output* file* outcome      each of this run; a file's pieces together; nothing after the end
"""

from __future__ import annotations

from pool.errors import RemoteProtocolError
from pool.settings import RunLimits
from sandbox_runtime import wire


class Transcript:
    """Everything that was said in one run, checked as it comes."""

    __slots__ = (
        "_file_bytes",
        "_is_call",
        "_limits",
        "_open",
        "_output_bytes",
        "_paths",
        "_returned_bytes",
        "end",
        "frames",
        "run",
        "was_cancelled",
    )

    def __init__(self, run: str, limits: RunLimits, *, is_call: bool = False) -> None:
        """`is_call`: it waits for its turn in a session, and may never have it."""
        self.run, self._is_call = run, is_call
        self.frames = 0
        """How many were heard."""
        self.was_cancelled = False
        """Somebody has asked for its end."""
        self._limits = limits
        self._output_bytes = dict.fromkeys(wire.STREAMS, 0)
        self._paths: set[str] = set()
        self._open: str | None = None
        """The path of the file whose pieces are coming."""
        self._file_bytes = 0
        self._returned_bytes = 0
        self.end: wire.Outcome | wire.Refused | None = None

    def hear(self, run: str, message: wire.Message) -> None:
        """Take a frame into account, or raise `RemoteProtocolError`."""
        if run != self.run:
            raise RemoteProtocolError(f"a {message.kind} frame of another run")
        if self.end is not None:
            raise RemoteProtocolError(f"a {message.kind} frame after the run's end")
        self.frames += 1
        match message:
            case wire.Output():
                self._output(message)
            case wire.File():
                self._file(message)
            case wire.Outcome():
                self._outcome(message)
            case wire.Refused():
                self._refused(message)
            case _:
                raise RemoteProtocolError(f"a {message.kind} frame during a run")

    def never_began(self) -> bool:
        """It has ended, and nothing of it has run: it was cancelled, or late, while it waited for its turn."""
        end = self.end
        return isinstance(end, wire.Outcome) and end.reason == "cancelled" and self._waited_in_vain(end)

    def _output(self, message: wire.Output) -> None:
        if self._paths:
            raise RemoteProtocolError("output after the first file")
        self._output_bytes[message.stream] += len(message.data)
        _at_most(self._limits.output_bytes, self._output_bytes[message.stream], f"bytes on {message.stream}")
        _not_endless(message.data)

    def _file(self, message: wire.File) -> None:
        if self._open is None:
            self._begin(message.path)
        elif message.path != self._open:
            raise RemoteProtocolError("a file begins before the last one has ended")
        self._file_bytes += len(message.data)
        self._returned_bytes += len(message.data)
        _at_most(self._limits.file_bytes, self._file_bytes, "bytes in a file")
        _at_most(self._limits.returned_bytes, self._returned_bytes, "bytes in files")
        if message.last:
            self._open = None
        else:
            _not_endless(message.data)

    def _begin(self, path: str) -> None:
        if path in self._paths:
            raise RemoteProtocolError("the same file twice")
        self._paths.add(path)
        _at_most(self._limits.returned_files, len(self._paths), "files")
        self._open = path
        self._file_bytes = 0

    def _outcome(self, message: wire.Outcome) -> None:
        if self._open is not None:
            raise RemoteProtocolError("an outcome before the last file has ended")
        if message.reason == "cancelled" and not (self.was_cancelled or self._waited_in_vain(message)):
            raise RemoteProtocolError("a run that nobody cancelled came back as cancelled")
        if (message.exit_code is None) is not (message.reason in ("timeout", "cancelled")):
            raise RemoteProtocolError(f"exit code {message.exit_code} for a run that ended by {message.reason}")
        self.end = message

    def _waited_in_vain(self, message: wire.Outcome) -> bool:
        """One that has begun has taken a millisecond at least."""
        return self._is_call and self.frames == 1 and message.duration_ms == 0

    def _refused(self, message: wire.Refused) -> None:
        if self._paths or any(self._output_bytes.values()):
            raise RemoteProtocolError("a refusal of what has begun to run")
        self.end = message


def _at_most(limit: int, number: int, what: str) -> None:
    if number > limit:
        raise RemoteProtocolError(f"{number} {what}, limit {limit}")


def _not_endless(data: bytes) -> None:
    # SECURITY: a frame without content uses up no budget: a million of them would keep the broker busy
    # until the deadline.
    if not data:
        raise RemoteProtocolError("an empty piece that ends nothing")
