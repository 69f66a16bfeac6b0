"""The client that blocks. Its twin that awaits (awaiting.py) has the same methods; what they share is in calls.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import Self, TypeVar, Unpack

import httpx

from code_interpreter_client import calls
from code_interpreter_client.calls import Call, EventReader, Options, Run
from code_interpreter_client.errors import ServiceRefused, ServiceUnreachable
from code_interpreter_client.exchange import heard, key_headers, request
from code_interpreter_client.retrying import Retrying
from code_interpreter_client.values import BashResult, Event, Result, Session, StoredFile

T = TypeVar("T")


class Client:
    """A context. Raises `ServiceRefused`, `ServiceUnreachable`, `AnswerUnreadable`; in a stream also `RunFailed`.

    `http` is an httpx client with a base URL, in place of one of its own.
    """

    def __init__(
        self,
        url: str = "",
        *,
        api_key: str | None = None,
        retrying: Retrying | None = None,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = http or httpx.Client(base_url=url)
        self._headers = key_headers(api_key)
        self._retrying = retrying or Retrying()
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def execute(self, code: str, **options: Unpack[Options]) -> Result:
        """Run a program to its end."""
        return self._ask(calls.execute(Run(code, **options)))

    def stream(self, code: str, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Output as it comes, then one `Result`. Close the iterator to cancel the run."""
        with heard(), closing(self._open(calls.execute(Run(code, **options), stream=True))) as answer:
            reader = EventReader()
            for line in answer.iter_lines():
                event = reader.line(line)
                if event is not None:
                    yield event
                if isinstance(event, Result):
                    return
        raise ServiceUnreachable("The stream ended without a result.")

    def cancel(self, execution_id: str) -> None:
        """End a run; whoever waits for it is told `execution_cancelled`."""
        self._ask(calls.cancel(execution_id))

    def open_session(self, *, ttl_seconds: int | None = None, files: Mapping[str, str] | None = None) -> Session:
        """A sandbox that keeps its files and processes. `files`: where each is to be, and its id."""
        return self._ask(calls.open_session(ttl_seconds, files or {}))

    def bash(self, session_id: str, command: str, *, timeout_ms: int | None = None) -> BashResult:
        return self._ask(calls.bash(session_id, command, timeout_ms))

    def close_session(self, session_id: str) -> None:
        self._ask(calls.close_session(session_id))

    def files(self) -> list[StoredFile]:
        return self._ask(calls.list_files())

    def upload(self, data: bytes, filename: str) -> StoredFile:
        return self._ask(calls.upload(data, filename))

    def download(self, file_id: str) -> bytes:
        return self._ask(calls.download(file_id))

    def pieces(self, file_id: str) -> Generator[bytes, None, None]:
        """A file as it comes, for one that is not to be held in memory whole."""
        with heard(), closing(self._open(calls.download(file_id))) as answer:
            yield from answer.iter_bytes()

    def delete_file(self, file_id: str) -> None:
        self._ask(calls.delete_file(file_id))

    def _ask(self, call: Call[T]) -> T:
        with heard(), closing(self._open(call)) as answer:
            return call.read(answer.read())

    def _open(self, call: Call[object]) -> httpx.Response:
        """An answer whose body is still to come; its caller closes it."""
        attempt = 1
        while True:
            try:
                return self._once(call)
            except ServiceRefused as error:
                seconds = self._retrying.wait_seconds(error, attempt)
                if seconds is None:
                    raise
            self._sleep(seconds)
            attempt += 1

    def _once(self, call: Call[object]) -> httpx.Response:
        answer = self._http.send(request(self._http, call, self._headers), stream=True)
        if not answer.is_success:
            with closing(answer):
                raise calls.refusal(answer.status_code, answer.read(), answer.headers)
        return answer
