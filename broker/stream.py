"""`POST /v1/execute/stream`: run a program, answer as it goes, as server-sent events.

Rule 1: no header goes out before a sandbox is leased, or the session's turn has come: until then a refusal
        is a status. Afterwards it is an `error` event.
Rule 2: the JSON is ASCII. Clients split lines at U+2028, U+2029 and U+0085 too.
Rule 3: exactly one `result` or `error` event, and it is the last.
"""

from __future__ import annotations

import codecs
import json
from functools import partial

import anyio
import msgspec
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from broker import errors
from broker.admission import Admitted, Asked, ask, look_up
from broker.disconnect import alongside, while_connected
from broker.edge import add_execution_id, raw_headers
from broker.failures import log_failure
from broker.output_log import Reader
from broker.results import result
from broker.returned_files import ReturnedFiles
from broker.run_places import RunPlace, place_of
from broker.schemas import Result, Truncated
from broker.service import Service, service_of
from broker.shared_execution import joined
from broker.shared_run import SharedRun
from broker.tenants import tenant_of
from pool import Stream

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
PING = b": ping\n\n"
# The contract says 15 at most. More often keeps hasty proxies quiet, less often saves nothing.
PING_SECONDS = 10.0
# A client that takes nothing for so long is gone. Its sandbox waits with it: the output is held nowhere.
STALL_SECONDS = 30.0


class EventSender:
    """Writes events to one client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.ended = False

    async def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        await self._taken({"type": "http.response.start", "status": 200, "headers": headers})
        # Not before: the server waits for room first, and a call that is cancelled there has sent nothing.
        self.begun = True
        await self._body(PING)

    async def event(self, name: str, data: object, *, last: bool = False) -> None:
        text = json.dumps(msgspec.to_builtins(data), separators=(",", ":"))
        await self._body(f"event: {name}\ndata: {text}\n\n".encode("ascii"), last=last)
        self.ended = last

    async def end(self, ended: Result | errors.Answer) -> None:
        """The last event, unless it is out already."""
        if self.ended:
            return
        if isinstance(ended, Result):
            await self.event("result", ended, last=True)
        else:
            await self.event("error", ended.event, last=True)

    async def ping_forever(self) -> None:
        while True:
            await anyio.sleep(PING_SECONDS)
            await self._body(PING)

    async def _body(self, data: bytes, *, last: bool = False) -> None:
        await self._taken({"type": "http.response.body", "body": data, "more_body": not last})

    async def _taken(self, message: Message) -> None:
        # SECURITY: the start waits too, behind an answer that was not read before it: with a sandbox in hand
        # (tests/integration/test_http_held.py).
        with anyio.move_on_after(STALL_SECONDS) as scope:
            await self._send(message)
        if scope.cancelled_caught:
            raise errors.ClientGone(f"The client took nothing for {STALL_SECONDS:.0f} s.")


class TextSender:
    """Passes output on as text, however the sandbox cut it."""

    def __init__(self, events: EventSender) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": decoder("replace"), "stderr": decoder("replace")}
        self._events = events

    async def output(self, stream: Stream, data: bytes) -> None:
        await self._text(stream, self._decoders[stream].decode(data))

    async def finish(self, truncated: Truncated) -> None:
        """Half a character at the end is shown as such, unless it was our cut that halved it."""
        if not truncated.stdout:
            await self._text("stdout", self._decoders["stdout"].decode(b"", final=True))
        if not truncated.stderr:
            await self._text("stderr", self._decoders["stderr"].decode(b"", final=True))

    async def _text(self, stream: Stream, text: str) -> None:
        if text:
            await self._events.event("output", {"stream": stream, "data": text})


class StreamSink(TextSender):
    """Output to the client, files to the store."""

    def __init__(self, events: EventSender, files: ReturnedFiles) -> None:
        super().__init__(events)
        self._files = files

    async def file(self, path: str, data: bytes, last: bool) -> None:
        await self._files.take(path, data, last=last)


async def execute_stream(request: Request) -> ExecutionStream:
    return ExecutionStream(service_of(request), request)


class ExecutionStream:
    """The answer itself: an ASGI application that leases, sends its headers, runs, and ends the stream."""

    def __init__(self, service: Service, request: Request) -> None:
        self._service = service
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._service.request("execute_stream", tenant_of(self._request)) as held:
            asked = await ask(self._request, self._service, held)
            add_execution_id(self._request, asked.execution_id)
            events = EventSender(send)
            try:
                await self._answer(asked, events)
            except errors.ClientGone:
                # With the headers out there is nobody to tell, and nothing to tell it with.
                if not events.begun:
                    raise
            except errors.ExecutionCancelled as error:
                if not events.begun:
                    raise
                await events.end(errors.answer(error))

    async def _answer(self, asked: Asked, events: EventSender) -> None:
        if asked.idempotency_key is not None:
            return await self._shared(asked, asked.idempotency_key, events)
        with self._service.executions.running(asked.caller, asked.execution_id):
            admitted = await look_up(asked, self._service)
            await while_connected(partial(self._serve, admitted, events), self._request.scope)

    async def _shared(self, asked: Asked, key: str, events: EventSender) -> None:
        async with joined(self._service, asked, key, "execute_stream") as run:
            await while_connected(partial(self._follow, run, events), self._request.scope)

    async def _follow(self, run: SharedRun, events: EventSender) -> None:
        """From its begin on, whenever this caller came."""
        await run.begun()
        add_execution_id(self._request, run.execution_id)
        if not run.has_begun:
            run.ended()
        await events.begin(raw_headers(HEADERS))
        sender = TextSender(events)
        await alongside(partial(_pass_on, run, sender), events.ping_forever)
        if run.result is not None:
            await sender.finish(run.result.truncated)
            await events.end(run.result)
        else:
            await events.end(run.failure_answer())

    async def _serve(self, admitted: Admitted, events: EventSender) -> None:
        service, tenant = self._service, admitted.tenant
        async with ReturnedFiles(service.files(tenant)) as files:
            async with place_of(service, admitted) as place:
                with service.metrics.execution("execute_stream", tenant.name, queue_ms=place.queue_ms) as execution:
                    await events.begin(_headers(place))
                    run = partial(_run, service, admitted, place, StreamSink(events, files), files)
                    ended = await alongside(run, events.ping_forever)
                    execution.ended(ended)
            # Out of the lease: the sandbox is given back before a slow client has read the end.
            if isinstance(ended, Result):
                self._service.metrics.result(ended)
            await events.end(ended)
            files.delivered = isinstance(ended, Result)


async def _pass_on(run: SharedRun, sender: TextSender) -> None:
    reader = Reader(run.output)
    while True:
        while (piece := reader.next()) is not None:
            await sender.output(*piece)
        if run.is_over:
            return
        await run.changed()


async def _run(
    service: Service, admitted: Admitted, place: RunPlace, sink: StreamSink, files: ReturnedFiles
) -> Result | errors.Answer:
    """What the last event is to say. The status is long sent: a failure is a value from here on."""
    try:
        outcome = await place.run(admitted.program, admitted.inputs, sink, admitted.run_deadline)
        await sink.finish(Truncated(outcome.stdout_truncated, outcome.stderr_truncated))
    except errors.ClientGone:
        raise
    except Exception as error:
        log_failure(error)
        return errors.answer(error)
    return result(service, admitted, place, outcome, files)


def _headers(place: RunPlace) -> list[tuple[bytes, bytes]]:
    timing = f"queue;dur={place.queue_ms:.3f}, lease;dur={place.lease_ms:.3f}"
    return raw_headers({**HEADERS, "Server-Timing": timing})
