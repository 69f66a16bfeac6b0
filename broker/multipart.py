"""A multipart body as a row of small events, however it is cut. Pure; holds no more than it was given."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from broker.errors import BadUpload

MAX_PART_HEADER_BYTES = 4096
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_EXTENDED = re.compile(r";\s*filename\*\s*=\s*utf-8'[^';]*'([^\s;]+)", re.ASCII | re.IGNORECASE)
"""RFC 7578, 4.2 forbids it here; urllib3 before 2.0 sends it for every name that is not ASCII."""


class PartBegin(msgspec.Struct, frozen=True):
    name: str
    filename: str | None
    """None: a plain field, no file."""


class PartData(msgspec.Struct, frozen=True):
    data: bytes


class PartEnd(msgspec.Struct, frozen=True):
    pass


Event = PartBegin | PartData | PartEnd


class Parts:
    """Bytes in, events out. Raises `BadUpload` for what is no multipart body."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise BadUpload("Missing boundary in multipart.")
        self.ended = False
        self._events: list[Event] = []
        self._field = bytearray()
        self._value = bytearray()
        self._disposition = ""
        self._parser = self._parser_for(boundary)

    def _parser_for(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._events.append(PartData(data[start:end])),
                    "on_part_end": lambda: self._events.append(PartEnd()),
                    "on_end": self._on_end,
                },
                max_header_size=MAX_PART_HEADER_BYTES,
            )
        except FormParserError as error:
            raise BadUpload(f"The multipart boundary is no good: {error}") from None

    def feed(self, data: bytes) -> list[Event]:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadUpload(f"The multipart body cannot be read: {error}") from None
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """The body has ended. Raises `BadUpload` if it did so in the middle."""
        if not self.ended:
            raise BadUpload("The multipart body ended before its last boundary.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._events.append(PartBegin(_text(options.get(b"name", b"")), self._filename(options.get(b"filename"))))
        self._disposition = ""

    def _filename(self, plain: bytes | None) -> str | None:
        encoded = _EXTENDED.search(_QUOTED.sub('""', self._disposition))
        if encoded:
            return unquote_to_bytes(encoded[1]).decode("utf-8", "replace")
        return None if plain is None else _text(plain)

    def _on_end(self) -> None:
        self.ended = True


def _text(data: bytes) -> str:
    """Clients send names as plain UTF-8 here, whatever the header's rules are."""
    return data.decode("utf-8", "replace")
