"""The streams of one `exec` as they lie in WebSocket messages: the first byte says which stream the rest is of. Pure.

Sources: apiserver `pkg/util/httpstream/wsstream/conn.go`, KEP-4006 (v5: one end of a stream can be closed by itself).

    open ── b"\\x01" (no data: connected, not started) ── stdout, stderr … ── the end, as a Status ── closed

SECURITY: a lost stream looks like success here: a killed kubelet or containerd gives `Success` and close 1000. How a
run ended is said by its outcome frame (`pool/transcript.py`), never by `Ended`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pool.errors import RemoteProtocolError

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
"""In the order to offer them: API servers from 1.30 on choose the first, older ones the second."""

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255

SEND_BYTES = 32 * 1024
"""Of a message. The server takes 32 MiB; larger ones hold up pings and what others say on the same connection."""

LONGEST_STATUS_BYTES = 64 * 1024
"""It quotes the whole command line; more than this is none of ours."""


class Output(msgspec.Struct, frozen=True):
    """Bytes of the process's stdout."""

    data: bytes


class Complaint(msgspec.Struct, frozen=True):
    """Bytes of its stderr: the runtime's, never a program's."""

    data: bytes


class Ended(msgspec.Struct, frozen=True):
    """The process has ended, was never started, or somebody between us and it was restarted."""

    text: str
    exit_code: int | None = None
    """None where nobody knows."""


Heard = Output | Complaint | Ended


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] = []


class _Status(msgspec.Struct):
    """The part of `metav1.Status` that tells how an exec ended."""

    status: str
    message: str = ""
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status)


def heard(message: bytes) -> Heard | None:
    """What a binary message says; None for one that only opens its stream. Raises `RemoteProtocolError`."""
    if not message:
        raise RemoteProtocolError("an exec message without its stream's number")
    stream, data = message[0], message[1:]
    if stream not in (STDOUT, STDERR, STATUS):
        raise RemoteProtocolError(f"an exec message of stream {stream}, which is not ours to hear")
    if not data:
        return None
    return _ended(data) if stream == STATUS else Output(data) if stream == STDOUT else Complaint(data)


def _ended(data: bytes) -> Ended:
    if len(data) > LONGEST_STATUS_BYTES:
        raise RemoteProtocolError(f"an exec status of {len(data)} bytes, limit {LONGEST_STATUS_BYTES}")
    try:
        said = _STATUS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"an exec status that is none: {error}") from error
    if said.status == "Success":
        return Ended("it says that the process ended well", 0)
    return Ended(said.message or "it failed and did not say why", _exit_code(said.details))


def _exit_code(details: _Details | None) -> int | None:
    """Only the cause of that name is a number: others stand in the same list."""
    codes = [cause.message for cause in (details.causes if details else []) if cause.reason == "ExitCode"]
    return int(codes[0]) if codes and codes[0].isascii() and codes[0].isdecimal() and len(codes[0]) < 4 else None


def said(data: bytes) -> Iterator[bytes]:
    """The messages that carry bytes to the process's stdin."""
    for start in range(0, len(data), SEND_BYTES):
        yield bytes((STDIN,)) + data[start : start + SEND_BYTES]


def end_of_input(protocol: str) -> bytes | None:
    """The message that ends stdin; None where only closing the connection does (v4)."""
    return bytes((CLOSE, STDIN)) if protocol == V5 else None
