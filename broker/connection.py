"""One connection, as uvicorn and httptools speak it, with what they leave out: bounded heads, refusals in JSON,
and an upgrade that nobody offered is no upgrade."""

from __future__ import annotations

import asyncio
import http
from typing import Any, NoReturn

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(HeadWithBody(transport, self.loop))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, f"No complete request head came in {HEAD_SECONDS:.0f} s")

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
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
        self._stop_timer()
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

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _refuse(self, status: int, detail: str) -> None:
        body = msgspec.json.encode({"detail": detail, "code": "bad_http", "retryable": False})
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        # In the middle of an answer nothing else can be said.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(head.encode("ascii") + body)
        self.transport.close()
