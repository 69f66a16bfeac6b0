"""The client that awaits. Its twin that blocks (blocking.py) has the same methods; what they share is in calls.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Self, TypeVar, Unpack

import anyio
import httpx

from code_interpreter_client import calls
from code_interpreter_client.calls import Call, EventReader, Options, Run
from code_interpreter_client.errors import ServiceRefused, ServiceUnreachable
from code_interpreter_client.exchange import heard, key_headers, request
from code_interpreter_client.retrying import Retrying
from code_interpreter_client.values import BashResult, Event, Result, Session, StoredFile

T = TypeVar("T")


class AsyncClient:
    """A context. Raises `ServiceRefused`, `ServiceUnreachable`, `AnswerUnreadable`; in a stream also `RunFailed`.

    `http` is an httpx client with a base URL, in place of one of its own.
    """

    def __init__(
        self,
        url: str = "",
        *,
        api_key: str | None = None,
        retrying: Retrying | None = None,
        http: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self._http = http or httpx.AsyncClient(base_url=url)
        self._headers = key_headers(api_key)
        self._retrying = retrying or Retrying()
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def execute(self, code: str, **options: Unpack[Options]) -> Result:
        """Run a program to its end."""
        return await self._ask(calls.execute(Run(code, **options)))

    async def stream(self, code: str, **options: Unpack[Options]) -> AsyncGenerator[Event, None]:
        """Output as it comes, then one `Result`. Close the iterator to cancel the run."""
        with heard():
            async with aclosing(await self._open(calls.execute(Run(code, **options), stream=True))) as answer:
                reader = EventReader()
                async for line in answer.aiter_lines():
                    event = reader.line(line)
                    if event is not None:
                        yield event
                    if isinstance(event, Result):
                        return
        raise ServiceUnreachable("The stream ended without a result.")

    async def cancel(self, execution_id: str) -> None:
        """End a run; whoever waits for it is told `execution_cancelled`."""
        await self._ask(calls.cancel(execution_id))

    async def open_session(self, *, ttl_seconds: int | None = None, files: Mapping[str, str] | None = None) -> Session:
        """A sandbox that keeps its files and processes. `files`: where each is to be, and its id."""
        return await self._ask(calls.open_session(ttl_seconds, files or {}))

    async def bash(self, session_id: str, command: str, *, timeout_ms: int | None = None) -> BashResult:
        return await self._ask(calls.bash(session_id, command, timeout_ms))

    async def close_session(self, session_id: str) -> None:
        await self._ask(calls.close_session(session_id))

    async def files(self) -> list[StoredFile]:
        return await self._ask(calls.list_files())

    async def upload(self, data: bytes, filename: str) -> StoredFile:
        return await self._ask(calls.upload(data, filename))

    async def download(self, file_id: str) -> bytes:
        return await self._ask(calls.download(file_id))

    async def pieces(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """A file as it comes, for one that is not to be held in memory whole."""
        with heard():
            async with aclosing(await self._open(calls.download(file_id))) as answer:
                async for piece in answer.aiter_bytes():
                    yield piece

    async def delete_file(self, file_id: str) -> None:
        await self._ask(calls.delete_file(file_id))

    async def _ask(self, call: Call[T]) -> T:
        with heard():
            async with aclosing(await self._open(call)) as answer:
                return call.read(await answer.aread())

    async def _open(self, call: Call[object]) -> httpx.Response:
        """An answer whose body is still to come; its caller closes it."""
        attempt = 1
        while True:
            try:
                return await self._once(call)
            except ServiceRefused as error:
                seconds = self._retrying.wait_seconds(error, attempt)
                if seconds is None:
                    raise
            await self._sleep(seconds)
            attempt += 1

    async def _once(self, call: Call[object]) -> httpx.Response:
        answer = await self._http.send(request(self._http, call, self._headers), stream=True)
        if not answer.is_success:
            async with aclosing(answer):
                raise calls.refusal(answer.status_code, await answer.aread(), answer.headers)
        return answer
