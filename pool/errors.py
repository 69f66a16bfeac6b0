"""What can go wrong in the pool, split by blame and cause. HTTP statuses are the broker's business.

A program that fails is no error: its exit code, timeout, memory end or cut output are an `Outcome`.
"""

from __future__ import annotations


class PoolError(Exception):
    """No sandbox could be had; nothing of the caller's program has run."""


class PoolClosed(PoolError):
    """The pool is shutting down."""


class PoolSaturated(PoolError):
    """The queue is full: refused at once."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PoolTimeout(PoolError):
    """No sandbox in the time allowed: waited in vain, or told at once that the queue would not be through by then."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SessionGone(PoolError):
    """The session has ended since it was seen."""


class ProtocolError(Exception):
    """Somebody broke the wire protocol. Never raised itself: blame is always known."""

    def __init__(self, message: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("raise LocalProtocolError or RemoteProtocolError: blame is always known")
        super().__init__(message)


class LocalProtocolError(ProtocolError):
    """We broke it: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The sandbox broke it. It is destroyed."""


class InputsRefused(Exception):
    """The files, code or standard input do not fit into a sandbox. The caller's doing; nothing has run."""

    def __init__(self, path: str, resource: str) -> None:
        text = _REFUSALS.get(resource, "{} does not fit into the workspace ({})")
        super().__init__(text.format(path or "the program", resource))
        self.path = path
        """Of the file; "" for the code or the standard input."""
        self.resource = resource
        """`disk`, `inodes` or `file_size`; in a session also `place` or `kernel`."""


_REFUSALS = {
    "place": "{} has no place in the session's workspace: a folder is there, or a link, a file or a closed folder is"
    " on the way to it",
    "kernel": "{} cannot be put into a session: its kernel lacks openat2 (Linux 5.6); commands run in it",
}


class SandboxError(Exception):
    """Something happened to a sandbox, not to the program in it."""


class SandboxLost(SandboxError):
    """It vanished, or fell silent, with a run in it. Whether the program ran to its end is not known."""


class ChannelLost(SandboxLost):
    """Its channel is gone, and it may be there still: another channel may be had. Never leaves the pool."""


class SandboxStartFailed(SandboxError):
    """It never became warm. Seen by the pool only; `reason` is a word for metrics, the text is for people."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
