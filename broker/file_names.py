"""File names of clients: metadata, never a path. Pure."""

from __future__ import annotations

import mimetypes
from urllib.parse import quote

MAX_NAME_BYTES = 255
UNNAMED = "unnamed"
DEFAULT_TYPE = "application/octet-stream"
_QUOTED = str.maketrans({'"': r"\"", "\\": r"\\"})


def stored_name(given: str) -> str:
    """The last part of the name without control characters, at most 255 bytes; the end goes, the extension stays."""
    # SECURITY: a name comes back in headers, listings and logs: no folders, no line breaks, no lone surrogates.
    last = given.replace("\\", "/").rstrip("/").rpartition("/")[2]
    clean = "".join(char for char in last if char.isprintable() and not "\ud800" <= char <= "\udfff").strip()
    return UNNAMED if clean in ("", ".", "..") else _short(clean)


def _short(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    kept = f"{dot}{extension}".encode() if stem and len(extension) <= 16 else b""
    room = MAX_NAME_BYTES - len(kept)
    return ((stem if kept else name).encode()[:room] + kept).decode(errors="ignore")


def content_disposition(name: str) -> str:
    """RFC 6266: a plain form for old clients, and `filename*` when that one cannot say it all."""
    plain = name.encode("ascii", "replace").decode().replace("%", "_").translate(_QUOTED)
    header = f'attachment; filename="{plain}"'
    if name.isascii() and "%" not in name:
        return header
    return f"{header}; filename*=UTF-8''{quote(name, safe='')}"


def mime_type(path: str) -> str:
    return mimetypes.guess_type(path, strict=False)[0] or DEFAULT_TYPE
