"""One operation of the API, and services to try it on."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.operations import OPERATIONS
from tests.http_service import Running

NEVER = "00000000-0000-4000-8000-000000000000"
"""An id that nothing has."""
BODIES: dict[str, dict[str, Any]] = {
    "execute": {"code": "print(1)"},
    "executeStream": {"code": "print(1)"},
    "openSession": {},
    "bash": {"cmd": "true"},
}
Said = tuple[int, str]


class Scene:
    """One operation, and services to try it on."""

    def __init__(
        self, name: str, make: Callable[..., Running], shared: Running, patch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        (self.each,) = (each for each in OPERATIONS if each.name == name)
        self.name, self.make, self.patch, self.folder = name, make, patch, folder
        self.shared = shared
        """For what leaves a service as it was."""

    def send(self, service: Running, *, id: str = NEVER, **given: Any) -> httpx.Response:
        """As it should be, but for what is given."""
        if not {"json", "content", "files"} & given.keys():
            if self.each.takes:
                given["json"] = BODIES[self.name]
            elif self.each.uploads:
                given["files"] = {self.each.uploads: ("a.txt", b"x")}
        return service.client.request(self.each.method, self.path(id), **given)

    def path(self, id: str = NEVER) -> str:
        return re.sub(r"\{\w+\}", id, self.each.path)

    def changed(self, service: Running, **fields: Any) -> httpx.Response:
        """With other fields in its body."""
        return self.send(service, json={**BODIES[self.name], **fields})

    def raw(self, service: Running, head: str, rest: bytes = b"") -> Said:
        """Bytes that no client sends; the first line and the host are those of the operation."""
        address = service.url.removeprefix("http://")
        start = f"{self.each.method.upper()} {self.path()} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
        host, port = address.split(":")
        with closing(socket.create_connection((host, int(port)), timeout=10)) as opened:
            opened.sendall((start + head).encode() + rest)
            answer = b"".join(iter(lambda: opened.recv(65536), b""))
        return int(answer[9:12]), json.loads(answer[answer.index(b"\r\n\r\n") :])["code"]

    @property
    def content_type(self) -> str:
        kind = "application/json" if self.each.takes else "multipart/form-data; boundary=x"
        return f"Content-Type: {kind}\r\n"

    def something(self, service: Running) -> str:
        """The id of something that is there, of the kind that the path names."""
        return self.opened(service) if "{session_id}" in self.each.path else service.upload(b"x")

    def opened(self, service: Running) -> str:
        """The id of a session."""
        answer = service.client.post("/v1/sessions", json={})
        assert answer.status_code == 201, answer.text
        found: str = answer.json()["session_id"]
        return found


def said(answer: httpx.Response) -> Said:
    return answer.status_code, answer.json()["code"]
