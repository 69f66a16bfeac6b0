"""A server that answers as no honest service does."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answers = Mapping[str, tuple[int, bytes]]
"""By method and path; 404 with a page of HTML for all others."""


@contextmanager
def impostor(answers: Answers, asked: list[bytes] | None = None, *, breaks_off: Collection[str] = ()) -> Iterator[str]:
    """Its address, while it answers; `asked` takes the bodies that it was sent. Of `breaks_off` the end is lacking."""
    bodies = [] if asked is None else asked

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            asked_for = f"{self.command} {self.path}"
            status, body = answers.get(asked_for, (404, b"<html>"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + (asked_for in breaks_off)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
