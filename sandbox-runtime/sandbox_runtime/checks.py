"""What a field of a message may hold: one predicate for each kind of field. Pure, standard library only.

A check never raises: whatever a peer sends, it is in the table or it is not.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Check = Callable[[object], bool]

MAX_CHUNK_BYTES = 48 * 1024
"""Raw bytes in one frame. Larger means fewer frames for a big file; smaller means that a `ping`
or a `cancel` waits less behind it, and stays below the 64 KiB that one exec message may carry."""

MAX_ARGUMENT_BYTES = 16 * 1024
"""All arguments and environment names and values of a run together, in UTF-8."""

MAX_PATH_BYTES = 4096 - len("/workspace/") - 1
"""The kernel takes 4096 with the folder before it and the NUL behind it (PATH_MAX)."""

MAX_LIST = 64
_V4, _V6 = "0123456789.", "0123456789abcdefABCDEF:."
MAX_INTEGER = 2**53 - 1


def integer(low: int, high: int = MAX_INTEGER) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def text(max_chars: int = 256) -> Check:
    return lambda value: type(value) is str and len(value) <= max_chars and _encodes(value)


def _encodes(value: str) -> bool:
    # SECURITY: JSON can spell a lone surrogate, and a str that holds one raises far from here, when
    # a log line, a file name or an answer is encoded (tests/property/test_wire.py).
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def relative_path(value: object) -> bool:
    """A path below the workspace: no traversal can be spelled with it."""
    if not isinstance(value, str) or not text(MAX_PATH_BYTES)(value):
        return False
    if "\0" in value or len(value.encode()) > MAX_PATH_BYTES:
        return False
    return not any(part in ("", ".", "..") for part in value.split("/"))


def relative_path_or_none(value: object) -> bool:
    return value == "" or relative_path(value)


def address(value: object) -> bool:
    """The letters of an IP address. No name: that would be looked up, by whoever answers such questions there."""
    return type(value) is str and 0 < len(value) <= 64 and (not value.strip(_V4) or _is_v6(value))


def _is_v6(value: str) -> bool:
    return ":" in value and not value.strip(_V6)


def flag(value: object) -> bool:
    return type(value) is bool


def one_of(*allowed: str) -> Check:
    return lambda value: type(value) is str and value in allowed


def optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def many(check: Check, most: int = MAX_LIST) -> Check:
    return lambda value: type(value) is list and len(value) <= most and all(map(check, value))


def texts_by_name(value: object) -> bool:
    return type(value) is dict and all(text(MAX_ARGUMENT_BYTES)(each) for pair in value.items() for each in pair)


def numbers_by_name(value: object) -> bool:
    return type(value) is dict and len(value) <= MAX_LIST and all(map(_number_named, value.items()))


def _number_named(pair: tuple[object, object]) -> bool:
    return text(64)(pair[0]) and integer(0)(pair[1])


class _Chunk:
    """Marks a field that carries bytes: base64 on the line, `bytes` in the message."""

    def __call__(self, value: object) -> bool:
        return type(value) is bytes and len(value) <= MAX_CHUNK_BYTES


chunk = _Chunk()
