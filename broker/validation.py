"""From a body to a request, or to the one thing that is wrong with it. Pure.

Its values one by one: `json_values.py`.
"""

from __future__ import annotations

import msgspec

from broker.errors import Loc, Unprocessable
from broker.json_values import (
    ABSENT,
    a_boolean,
    a_list,
    a_string,
    an_object,
    at_least_one,
    container,
    cut,
    fields_of,
    refuse,
    scalar,
    short,
    without_nul,
)
from broker.paths import check_paths, workspace_path
from broker.schemas import ExecuteRequest, InputFile
from pool import Program

MAX_BODY_BYTES = 32 * 2**20
"""A whole request. More lets longer programs in; less bounds what a hundred callers can make us hold."""
MAX_ARGUMENT_BYTES = 16 * 1024
"""All arguments, environment names and values together; the wire carries them in one frame."""
MAX_ARGUMENTS = 1024
MAX_ARGUMENT_JSON_BYTES = 64 * 1024
"""Of `args`, and of `env`, as they stand in the body: room for escapes, none for a million empty entries."""
MAX_FILES_JSON_BYTES = 2**20
"""Of `files`: a thousand of them with long paths."""
MAX_TIMEOUT_MS = 2**53 - 1

_INSTEAD = "; use stdin or a file for more"


class _Body(msgspec.Struct):
    """The fields as they stand in the body."""

    code: msgspec.Raw = ABSENT
    stdin: msgspec.Raw = ABSENT
    args: msgspec.Raw = ABSENT
    env: msgspec.Raw = ABSENT
    last_line_interactive: msgspec.Raw = ABSENT
    timeout_ms: msgspec.Raw = ABSENT
    files: msgspec.Raw = ABSENT
    session_id: msgspec.Raw = ABSENT


def execute_request(body: bytes | bytearray, *, max_timeout_ms: int) -> ExecuteRequest:
    """Raises `SchemaError` where the form is wrong, `Unprocessable` where the content is."""
    fields = fields_of(body, _Body)
    request = ExecuteRequest(
        program=_program(fields, body),
        files=input_files(container("files", fields.files, [], MAX_FILES_JSON_BYTES)),
        session_id=_text_or_none(fields.session_id, "session_id"),
    )
    check_timeout(request.program.timeout_ms, max_timeout_ms)
    check_paths([file.path for file in request.files])
    return request


def _program(fields: _Body, body: bytes | bytearray) -> Program:
    if not memoryview(fields.code):
        refuse("missing", ("body", "code"), short(body))
    args = _args(container("args", fields.args, [], MAX_ARGUMENT_JSON_BYTES, _INSTEAD))
    env = _env(container("env", fields.env, {}, MAX_ARGUMENT_JSON_BYTES, _INSTEAD))
    _bounded(args, env)
    return Program(
        code=a_string(scalar(fields.code), ("body", "code")),
        stdin=_text_or_none(fields.stdin, "stdin"),
        args=args,
        env=env,
        last_line_interactive=a_boolean(scalar(fields.last_line_interactive, True), ("body", "last_line_interactive")),
        timeout_ms=at_least_one(scalar(fields.timeout_ms, 2000), ("body", "timeout_ms")),
    )


def _text_or_none(text: msgspec.Raw, name: str) -> str | None:
    value = scalar(text)
    return None if value is None else a_string(value, ("body", name))


def _args(value: object) -> tuple[str, ...]:
    given = a_list(value, ("body", "args"))
    return tuple(
        without_nul(a_string(each, loc), loc)
        for loc, each in ((("body", "args", n), arg) for n, arg in enumerate(given))
    )


def _env(value: object) -> dict[str, str]:
    if type(value) is not dict:
        refuse("dict_type", ("body", "env"), value)
    return {_env_name(name): _env_value(name, each) for name, each in value.items()}


def _env_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        refuse(
            "value_error",
            ("body", "env", cut(name)),
            name,
            "an environment name is not empty and has no '=' and no NUL",
        )
    return name


def _env_value(name: str, value: object) -> str:
    loc = ("body", "env", cut(name))
    return without_nul(a_string(value, loc), loc)


def _bounded(args: tuple[str, ...], env: dict[str, str]) -> None:
    size = sum(len(text.encode()) for text in (*args, *env, *env.values()))
    if size > MAX_ARGUMENT_BYTES:
        raise Unprocessable(f"args and env together are {size} bytes, at most {MAX_ARGUMENT_BYTES}{_INSTEAD}.")
    if len(args) > MAX_ARGUMENTS:
        raise Unprocessable(f"args has {len(args)} entries, at most {MAX_ARGUMENTS}.")


def check_timeout(timeout_ms: int, max_timeout_ms: int) -> None:
    """Raises `Unprocessable`."""
    if timeout_ms > max_timeout_ms:
        raise Unprocessable(f"timeout_ms exceeds maximum of {max_timeout_ms} ms")


def input_files(value: object) -> tuple[InputFile, ...]:
    """Stored files and where they are to be found. Raises `SchemaError`, `Unprocessable`."""
    return tuple(_file(each, ("body", "files", number)) for number, each in enumerate(a_list(value, ("body", "files"))))


def _file(value: object, loc: Loc) -> InputFile:
    fields = an_object(value, loc)
    for name in ("path", "file_id"):
        if name not in fields:
            refuse("missing", (*loc, name), fields)
    given = a_string(fields["path"], (*loc, "path"))
    return InputFile(workspace_path(given), a_string(fields["file_id"], (*loc, "file_id")), given)
