"""One connection, as uvicorn and httptools speak it, with what they leave out: bounded heads, refusals in JSON,
and an upgrade that nobody offered is no upgrade."""

from __future__ import annotations

import asyncio
import http
from typing import Any, NoReturn

import httptools
import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from broker.disconnect import CLIENT, Client
from broker.head_with_body import HeadWithBody

# Of a request's head with its trailers. More than any client sends; the parser itself knows no end.
MAX_HEAD_BYTES = 64 * 1024
# For a head, from a connection's first moment on. Less cuts off slow networks; more holds sockets for nothing.
HEAD_SECONDS = 30.0
_TOO_LARGE = (431, f"Request head exceeds maximum of {MAX_HEAD_BYTES // 1024} KiB")


class HeadRefused(Exception):
    """Raised within the parser, which stops there."""


class Connection(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._upgrading = False
        self._head_bytes = 0
        self._hosts = 0
        self._idle_bytes = 0
        """Fed since a head was last complete or a byte of a body came."""
        self._advanced = False
        self._refusal = (400, "Invalid HTTP request received.")
        self._head_timer: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None
        """Or the one answered last. `cycle` is the newest, which may be queued behind it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        outgoing = HeadWithBody(transport, self.loop)
        self._unread = outgoing.unread
        super().connection_made(outgoing)
        self._client = Client(self.flow.resume_reading)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        self._unread.end()
        super().connection_lost(exc)
        self._client.leave()
        # uvicorn tells the newest, which may be queued behind one that runs.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def eof_received(self) -> None:
        # The transport below would close itself, and nobody watch what is left in it.
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._unread.end()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        scope: Any = cycle.scope
        scope[CLIENT] = self._client
        super()._start_asgi_task(cycle, app)

    def _await_head(self) -> None:
        self._stop_timers()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_timers(self) -> None:
        # SECURITY: a head alone stops the clock between two requests. Empty lines, or the rest of a body that was
        # answered already, would hold the connection for nothing (tests/integration/test_http_held.py).
        self._unset_keepalive_if_required()
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, f"No complete request head came in {HEAD_SECONDS:.0f} s")

    def data_received(self, data: bytes) -> None:
        self._advanced = False
        self._feed(data)
        if self._advanced:
            self._idle_bytes = 0
        elif not self.transport.is_closing():
            # SECURITY: one header that never ends would grow until memory does (tests/integration/test_http_bad.py).
            self._idle_bytes += len(data)
            if self._idle_bytes > MAX_HEAD_BYTES:
                self._refuse(*_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrading:
                self._feed_again(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(*self._refusal)

    def _feed_again(self, rest: bytes) -> None:
        """The same head without its Upgrade, to a new parser: the first one takes what follows for another protocol."""
        lines = [
            b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode("ascii")),
            *(name + b": " + value for name, value in self.headers if name != b"upgrade"),
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def on_message_begin(self) -> None:
        self._in_head, self._upgrading, self._head_bytes, self._hosts = True, False, 0, 0
        self._await_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        if name.lower() == b"host":
            self._hosts += 1
        # Trailers are dropped: nothing reads them, and the headers are those of a request that may be running already.
        if self._in_head:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._stop(_TOO_LARGE)

    def _stop(self, refusal: tuple[int, str]) -> NoReturn:
        self._refusal = refusal
        raise HeadRefused

    def on_headers_complete(self) -> None:
        # SECURITY: a proxy in front may have gone by the other one (RFC 9112, 3.2; tests/integration/test_http_bad.py).
        if self._hosts > 1:
            self._stop((400, "More than one Host header."))
        self._in_head, self._advanced = False, True
        self._stop_timers()
        # A server ignores an upgrade that it does not know (RFC 9110, 7.8). CONNECT is one by its nature.
        self._upgrading = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if not self._upgrading:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrading:
            super().on_message_complete()
            # uvicorn does not say so of one that was answered early.
            self.cycle.more_body = False

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _refuse(self, status: int, detail: str) -> None:
        body = msgspec.json.encode({"detail": detail, "code": "bad_http", "retryable": False})
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        if self._may_answer():
            self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _may_answer(self) -> bool:
        """Whether a refusal now is the answer to what is refused, and to nothing else."""
        current = self._answering
        # SECURITY: behind a request that runs, it would end up in that one's answer, or be taken for it
        # (tests/integration/test_http_held.py).
        if current is None or current.response_complete:
            return current is None or not current.more_body
        return current.more_body and not current.response_started
