"""A typed client of the code interpreter: `Client` blocks, `AsyncClient` awaits; both say the same."""

from code_interpreter_client.awaiting import AsyncClient
from code_interpreter_client.blocking import Client
from code_interpreter_client.errors import (
    AnswerUnreadable,
    CodeInterpreterError,
    RunFailed,
    ServiceRefused,
    ServiceUnreachable,
)
from code_interpreter_client.retrying import Retrying
from code_interpreter_client.values import (
    BashResult,
    Event,
    Output,
    Result,
    ReturnedFile,
    Session,
    SkippedFile,
    StoredFile,
)

__all__ = [
    "AnswerUnreadable",
    "AsyncClient",
    "BashResult",
    "Client",
    "CodeInterpreterError",
    "Event",
    "Output",
    "Result",
    "Retrying",
    "ReturnedFile",
    "RunFailed",
    "ServiceRefused",
    "ServiceUnreachable",
    "Session",
    "SkippedFile",
    "StoredFile",
]
