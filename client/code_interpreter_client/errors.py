"""What a call may raise. A program that fails is no error: its exit code says so."""

from __future__ import annotations


class CodeInterpreterError(Exception):
    """Never raised itself."""


class ServiceUnreachable(CodeInterpreterError):
    """No answer, or one that broke off: whether the program has run is not known without an idempotency key."""


class AnswerUnreadable(CodeInterpreterError):
    """An answer that is none of this service's: another server is behind the address, or a proxy before it."""


class ServiceRefused(CodeInterpreterError):
    """An answer that is an error. `code` is the service's word for it, `retryable` its promise that nothing has run."""

    def __init__(
        self, detail: str, *, status: int, code: str, retryable: bool, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class RunFailed(CodeInterpreterError):
    """A stream that had begun and ended in an error."""

    def __init__(self, message: str, *, code: str, retryable: bool) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
