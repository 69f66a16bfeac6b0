"""From a body to a request, or to the one thing that is wrong with it. Pure.

Checked by hand, not by type conversion: the entries of a 422 have FastAPI's form, and `5.0` is no integer and `null`
no list, where a converter would be kind.

SECURITY: a body may hold millions of small values, which would hold up the event loop for seconds. So nothing is made
into objects whose size as text was not looked at first, and unknown fields never are (tests/unit/test_validation.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import msgspec

from broker.errors import Loc, SchemaError, Unprocessable
from broker.paths import check_paths, workspace_path
from broker.schemas import ExecuteRequest, InputFile
from pool import Program

MAX_BODY_BYTES = 32 * 2**20
"""A whole request. More lets longer programs in; less bounds what a hundred callers can make us hold."""
MAX_FILES = 1000
"""Inputs of one run: each is looked up in the store before a sandbox is leased."""
MAX_ARGUMENT_BYTES = 16 * 1024
"""All arguments, environment names and values together; the wire carries them in one frame."""
MAX_ARGUMENTS = 1024
MAX_ARGUMENT_JSON_BYTES = 64 * 1024
"""Of `args`, and of `env`, as they stand in the body: room for escapes, none for a million empty entries."""
MAX_FILES_JSON_BYTES = 2**20
"""Of `files`: a thousand of them with long paths."""
MAX_SCALAR_BYTES = 4096
"""Of a value where text, a number or a switch belongs, unless it is text."""
MAX_TIMEOUT_MS = 2**53 - 1
MAX_INPUT_CHARS = 256

MESSAGES = {
    "missing": "Field required",
    "json_invalid": "JSON decode error",
    "model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
    "string_type": "Input should be a valid string",
    "int_type": "Input should be a valid integer",
    "greater_than_equal": "Input should be greater than or equal to 1",
    "bool_parsing": "Input should be a valid boolean, unable to interpret input",
    "list_type": "Input should be a valid list",
    "dict_type": "Input should be a valid dictionary",
    "too_long": "List should have at most 1000 items",
    "value_error": "Value error",
}
"""All types of schema errors. Clients may compare them; nothing else is ever sent."""

_INSTEAD = "; use stdin or a file for more"
_ABSENT = msgspec.Raw()
_UNSEEN = object()
"""Stands for a value that is too long to be looked at, and of the wrong kind whatever it holds."""


class _Body(msgspec.Struct):
    """The fields as they stand in the body."""

    code: msgspec.Raw = _ABSENT
    stdin: msgspec.Raw = _ABSENT
    args: msgspec.Raw = _ABSENT
    env: msgspec.Raw = _ABSENT
    last_line_interactive: msgspec.Raw = _ABSENT
    timeout_ms: msgspec.Raw = _ABSENT
    files: msgspec.Raw = _ABSENT


_BOOLEANS: Mapping[object, bool] = {
    True: True, "true": True, "yes": True, "on": True, "1": True, "t": True, "y": True,
    False: False, "false": False, "no": False, "off": False, "0": False, "f": False, "n": False,
}  # fmt: skip


def execute_request(body: bytes | bytearray, *, max_timeout_ms: int) -> ExecuteRequest:
    """Raises `SchemaError` where the form is wrong, `Unprocessable` where the content is."""
    fields = _fields(body)
    request = ExecuteRequest(
        program=_program(fields, body), files=_files(_container("files", fields.files, [], MAX_FILES_JSON_BYTES))
    )
    if request.program.timeout_ms > max_timeout_ms:
        raise Unprocessable(f"timeout_ms exceeds maximum of {max_timeout_ms} ms")
    check_paths([file.path for file in request.files])
    return request


def _fields(body: bytes | bytearray) -> _Body:
    if not body:
        _refuse("missing", ("body",), None)
    try:
        return msgspec.json.decode(body, type=_Body)
    except msgspec.ValidationError:
        _check_syntax(body)
        _refuse("model_attributes_type", ("body",), _short(body))
    except _NO_JSON:
        _refuse("json_invalid", ("body", 0), {})


# RecursionError: "[" * 100000 is a short body. A lone surrogate is refused here too: no file can hold it.
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _check_syntax(body: bytes | bytearray) -> None:
    """As a field it is read to its end and nothing is made of it."""
    try:
        msgspec.json.decode(b'{"code":' + body + b"}", type=_Body)
    except _NO_JSON:
        _refuse("json_invalid", ("body", 0), {})


def _json(text: msgspec.Raw | bytes | bytearray) -> object:
    try:
        return msgspec.json.decode(text)
    except _NO_JSON:
        _refuse("json_invalid", ("body", 0), {})


def _short(text: bytes | bytearray) -> object:
    """To be shown in an error, or None."""
    return _json(text) if len(text) <= MAX_SCALAR_BYTES else None


def _scalar(text: msgspec.Raw, default: object = None) -> object:
    view = memoryview(text)
    if not view:
        return default
    return _UNSEEN if len(view) > MAX_SCALAR_BYTES and view[0] != ord('"') else _json(text)


def _container(name: str, text: msgspec.Raw, default: object, limit_bytes: int, advice: str = "") -> object:
    size = len(memoryview(text))
    if size > limit_bytes:
        raise Unprocessable(f"{name} is {size} bytes of JSON, at most {limit_bytes}{advice}.")
    return _json(text) if size else default


def _program(fields: _Body, body: bytes | bytearray) -> Program:
    if not memoryview(fields.code):
        _refuse("missing", ("body", "code"), _short(body))
    stdin = _scalar(fields.stdin)
    args = _args(_container("args", fields.args, [], MAX_ARGUMENT_JSON_BYTES, _INSTEAD))
    env = _env(_container("env", fields.env, {}, MAX_ARGUMENT_JSON_BYTES, _INSTEAD))
    _bounded(args, env)
    return Program(
        code=_string(_scalar(fields.code), ("body", "code")),
        stdin=None if stdin is None else _string(stdin, ("body", "stdin")),
        args=args,
        env=env,
        last_line_interactive=_boolean(_scalar(fields.last_line_interactive, True), ("body", "last_line_interactive")),
        timeout_ms=_milliseconds(_scalar(fields.timeout_ms, 2000), ("body", "timeout_ms")),
    )


def _args(value: object) -> tuple[str, ...]:
    given = _list(value, ("body", "args"))
    return tuple(
        _without_nul(_string(each, loc), loc)
        for loc, each in ((("body", "args", n), arg) for n, arg in enumerate(given))
    )


def _env(value: object) -> dict[str, str]:
    if type(value) is not dict:
        _refuse("dict_type", ("body", "env"), value)
    return {_env_name(name): _env_value(name, each) for name, each in value.items()}


def _env_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        _refuse(
            "value_error",
            ("body", "env", _cut(name)),
            name,
            "an environment name is not empty and has no '=' and no NUL",
        )
    return name


def _env_value(name: str, value: object) -> str:
    loc = ("body", "env", _cut(name))
    return _without_nul(_string(value, loc), loc)


def _bounded(args: tuple[str, ...], env: dict[str, str]) -> None:
    size = sum(len(text.encode()) for text in (*args, *env, *env.values()))
    if size > MAX_ARGUMENT_BYTES:
        raise Unprocessable(f"args and env together are {size} bytes, at most {MAX_ARGUMENT_BYTES}{_INSTEAD}.")
    if len(args) > MAX_ARGUMENTS:
        raise Unprocessable(f"args has {len(args)} entries, at most {MAX_ARGUMENTS}.")


def _files(value: object) -> tuple[InputFile, ...]:
    return tuple(_file(each, ("body", "files", number)) for number, each in enumerate(_list(value, ("body", "files"))))


def _file(value: object, loc: Loc) -> InputFile:
    fields = _object(value, loc)
    for name in ("path", "file_id"):
        if name not in fields:
            _refuse("missing", (*loc, name), fields)
    given = _string(fields["path"], (*loc, "path"))
    return InputFile(workspace_path(given), _string(fields["file_id"], (*loc, "file_id")), given)


# --- kinds of values --------------------------------------------------------------------------


def _object(value: object, loc: Loc) -> dict[str, object]:
    if type(value) is not dict:
        _refuse("model_attributes_type", loc, value)
    return value


def _list(value: object, loc: Loc) -> list[object]:
    if type(value) is not list:
        _refuse("list_type", loc, value)
    if len(value) > MAX_FILES:
        _refuse("too_long", loc, None)
    return value


def _string(value: object, loc: Loc) -> str:
    if type(value) is not str:
        _refuse("string_type", loc, value)
    return value


def _without_nul(value: str, loc: Loc) -> str:
    if "\0" in value:
        _refuse("value_error", loc, value, "NUL cannot stand in an argument or in the environment")
    return value


def _boolean(value: object, loc: Loc) -> bool:
    known = value.lower() if type(value) is str else value
    if type(known) not in (bool, int, str) or known not in _BOOLEANS:
        _refuse("bool_parsing", loc, value)
    return _BOOLEANS[known]


def _milliseconds(value: object, loc: Loc) -> int:
    if type(value) is not int:
        _refuse("int_type", loc, value)
    if value < 1:
        _refuse("greater_than_equal", loc, value)
    return value


def _refuse(kind: str, loc: Loc, value: object, why: str = "") -> NoReturn:
    message = f"{MESSAGES[kind]}, {why}" if why else MESSAGES[kind]
    raise SchemaError(kind, loc, message, _shown(value))


def _shown(value: object) -> object:
    """The input itself if it is short: an error must not send 32 MiB back."""
    if value is _UNSEEN:
        return None
    try:
        return value if len(msgspec.json.encode(value)) <= MAX_INPUT_CHARS else None
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _cut(name: str) -> str:
    return name[:MAX_INPUT_CHARS]
