"""From a body to a session, or to a call of one, or to the one thing that is wrong with it. Pure."""

from __future__ import annotations

import msgspec

from broker.errors import Unprocessable
from broker.json_values import ABSENT, a_string, at_least_one, container, fields_of, refuse, scalar, short, without_nul
from broker.paths import check_paths
from broker.schemas import BashRequest, SessionRequest
from broker.validation import MAX_FILES_JSON_BYTES, check_timeout, input_files

DEFAULT_TTL_SECONDS, MAX_TTL_SECONDS = 900, 86_400
DEFAULT_BASH_MS = 30_000
MAX_COMMAND_BYTES = 128 * 1024 - 1
"""One argument of `bash -c`: the kernel takes no more (MAX_ARG_STRLEN)."""


class _SessionBody(msgspec.Struct):
    ttl_seconds: msgspec.Raw = ABSENT
    files: msgspec.Raw = ABSENT


class _BashBody(msgspec.Struct):
    cmd: msgspec.Raw = ABSENT
    timeout_ms: msgspec.Raw = ABSENT


def session_request(body: bytes | bytearray) -> SessionRequest:
    """Raises `SchemaError` where the form is wrong, `Unprocessable` where the content is."""
    fields = fields_of(body, _SessionBody)
    ttl_seconds = at_least_one(scalar(fields.ttl_seconds, DEFAULT_TTL_SECONDS), ("body", "ttl_seconds"))
    if ttl_seconds > MAX_TTL_SECONDS:
        refuse("less_than_equal", ("body", "ttl_seconds"), ttl_seconds)
    files = input_files(container("files", fields.files, [], MAX_FILES_JSON_BYTES))
    check_paths([file.path for file in files])
    return SessionRequest(ttl_seconds=ttl_seconds, files=files)


def bash_request(body: bytes | bytearray, *, max_timeout_ms: int) -> BashRequest:
    """The same."""
    fields = fields_of(body, _BashBody)
    if not memoryview(fields.cmd):
        refuse("missing", ("body", "cmd"), short(body))
    command = without_nul(a_string(scalar(fields.cmd), ("body", "cmd")), ("body", "cmd"))
    usual_ms = min(DEFAULT_BASH_MS, max_timeout_ms)
    timeout_ms = at_least_one(scalar(fields.timeout_ms, usual_ms), ("body", "timeout_ms"))
    check_timeout(timeout_ms, max_timeout_ms)
    if (size := len(command.encode())) > MAX_COMMAND_BYTES:
        raise Unprocessable(f"cmd is {size} bytes, at most {MAX_COMMAND_BYTES}; upload it as a file of the session.")
    return BashRequest(cmd=command, timeout_ms=timeout_ms)
