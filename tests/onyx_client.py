"""A client of the compatible API, as Onyx's behaves: the same HTTP library, no header of its own, no retry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import requests

Event = tuple[str, dict[str, Any]]
KNOWN = ("output", "result", "error")


def parse_events(lines: Iterable[Any]) -> Iterator[Event]:
    """Each event's type and data; comments are nothing, types that it does not know are dropped."""
    kind: str | None = None
    data: list[str] = []
    for line in lines:
        if line == "":
            if kind in KNOWN and data:
                yield str(kind), json.loads("\n".join(data))
            kind, data = None, []
        elif line.startswith("event:"):
            kind = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").strip())
    assert kind is None
    assert not data, f"the stream ended within an event: {kind} {data}"


class OnyxClient:
    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def close(self) -> None:
        self.session.close()

    def is_healthy(self) -> bool:
        answer = self.session.get(f"{self.url}/health", timeout=5)
        return answer.ok and answer.json().get("status") == "ok"

    def upload(self, content: bytes, name: str) -> str:
        answer = self.session.post(f"{self.url}/v1/files", files={"file": (name, content)}, timeout=30)
        answer.raise_for_status()
        file_id: str = answer.json()["file_id"]
        return file_id

    def execute(self, code: str, **fields: Any) -> dict[str, Any]:
        answer = self.session.post(f"{self.url}/v1/execute", json=_body(code, **fields), timeout=70)
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    def stream(self, code: str, path: str = "/v1/execute/stream", **fields: Any) -> Iterator[Event]:
        """Falls back to the batch call where the path does not exist."""
        with self.session.post(f"{self.url}{path}", json=_body(code, **fields), stream=True, timeout=70) as answer:
            if answer.status_code != 404:
                answer.raise_for_status()
                yield from parse_events(answer.iter_lines(decode_unicode=True))
                return
        yield from _as_events(self.execute(code, **fields))

    def download(self, file_id: str) -> bytes:
        answer = self.session.get(f"{self.url}/v1/files/{file_id}", timeout=30)
        answer.raise_for_status()
        return answer.content

    def delete(self, file_id: str) -> None:
        self.session.delete(f"{self.url}/v1/files/{file_id}", timeout=10).raise_for_status()


def _body(code: str, *, timeout_ms: int = 60_000, files: list[dict[str, str]] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"code": code, "timeout_ms": timeout_ms}
    return {**body, "files": files} if files else body


def _as_events(result: dict[str, Any]) -> Iterator[Event]:
    for stream in ("stdout", "stderr"):
        if result[stream]:
            yield "output", {"stream": stream, "data": result[stream]}
    yield "result", result
