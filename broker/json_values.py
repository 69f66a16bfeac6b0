"""What stands in a JSON body: one value after the other, or the one thing that is wrong with it. Pure.

Checked by hand, not by type conversion: the entries of a 422 have FastAPI's form, and `5.0` is no integer and `null`
no list, where a converter would be kind. Switches are the exception, and `bodies.py` says what they take.

SECURITY: a body may hold millions of small values, which would hold up the event loop for seconds. So nothing is made
into objects whose size as text was not looked at first, and unknown fields never are (tests/unit/test_validation.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, TypeVar

import msgspec

from broker.errors import Loc, SchemaError, Unprocessable

MAX_SCALAR_BYTES = 4096
"""Of a value where text, a number or a switch belongs, unless it is text."""
MAX_FILES = 1000
"""Inputs of one run: each is looked up in the store before a sandbox is leased."""
MAX_INPUT_CHARS = 256

MESSAGES = {
    "missing": "Field required",
    "json_invalid": "JSON decode error",
    "model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
    "string_type": "Input should be a valid string",
    "int_type": "Input should be a valid integer",
    "greater_than_equal": "Input should be greater than or equal to 1",
    "less_than_equal": "Input should be less than or equal to 86400",
    "bool_parsing": "Input should be a valid boolean, unable to interpret input",
    "list_type": "Input should be a valid list",
    "dict_type": "Input should be a valid dictionary",
    "too_long": "List should have at most 1000 items",
    "value_error": "Value error",
}
"""All types of schema errors. Clients may compare them; nothing else is ever sent."""

ABSENT = msgspec.Raw()
_UNSEEN = object()
"""Stands for a value that is too long to be looked at, and of the wrong kind whatever it holds."""


class _Any(msgspec.Struct):
    value: msgspec.Raw


Fields = TypeVar("Fields", bound=msgspec.Struct)

_BOOLEANS: Mapping[object, bool] = {
    True: True, "true": True, "yes": True, "on": True, "1": True, "t": True, "y": True,
    False: False, "false": False, "no": False, "off": False, "0": False, "f": False, "n": False,
}  # fmt: skip


def fields_of(body: bytes | bytearray, kind: type[Fields]) -> Fields:
    """The fields as they stand in the body: a struct of `msgspec.Raw`, each `ABSENT` unless it is there."""
    if not body:
        refuse("missing", ("body",), None)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        _check_syntax(body)
        refuse("model_attributes_type", ("body",), short(body))
    except _NO_JSON:
        refuse("json_invalid", ("body", 0), {})


# RecursionError: "[" * 100000 is a short body. A lone surrogate is refused here too: no file can hold it.
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _check_syntax(body: bytes | bytearray) -> None:
    """As a field it is read to its end and nothing is made of it."""
    try:
        msgspec.json.decode(b'{"value":' + body + b"}", type=_Any)
    except _NO_JSON:
        refuse("json_invalid", ("body", 0), {})


def _json(text: msgspec.Raw | bytes | bytearray) -> object:
    try:
        return msgspec.json.decode(text)
    except _NO_JSON:
        refuse("json_invalid", ("body", 0), {})


def short(text: bytes | bytearray) -> object:
    """To be shown in an error, or None."""
    return _json(text) if len(text) <= MAX_SCALAR_BYTES else None


def scalar(text: msgspec.Raw, default: object = None) -> object:
    view = memoryview(text)
    if not view:
        return default
    return _UNSEEN if len(view) > MAX_SCALAR_BYTES and view[0] != ord('"') else _json(text)


def container(name: str, text: msgspec.Raw, default: object, limit_bytes: int, advice: str = "") -> object:
    size = len(memoryview(text))
    if size > limit_bytes:
        raise Unprocessable(f"{name} is {size} bytes of JSON, at most {limit_bytes}{advice}.")
    return _json(text) if size else default


# --- kinds of values --------------------------------------------------------------------------


def an_object(value: object, loc: Loc) -> dict[str, object]:
    if type(value) is not dict:
        refuse("model_attributes_type", loc, value)
    return value


def a_list(value: object, loc: Loc) -> list[object]:
    if type(value) is not list:
        refuse("list_type", loc, value)
    if len(value) > MAX_FILES:
        refuse("too_long", loc, None)
    return value


def a_string(value: object, loc: Loc) -> str:
    if type(value) is not str:
        refuse("string_type", loc, value)
    return value


def without_nul(value: str, loc: Loc) -> str:
    if "\0" in value:
        refuse("value_error", loc, value, "NUL cannot stand in an argument or in the environment")
    return value


def a_boolean(value: object, loc: Loc) -> bool:
    known = value.lower() if type(value) is str else value
    if type(known) not in (bool, int, float, str) or known not in _BOOLEANS:
        refuse("bool_parsing", loc, value)
    return _BOOLEANS[known]


def at_least_one(value: object, loc: Loc) -> int:
    if type(value) is not int:
        refuse("int_type", loc, value)
    if value < 1:
        refuse("greater_than_equal", loc, value)
    return value


def refuse(kind: str, loc: Loc, value: object, why: str = "") -> NoReturn:
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


def cut(name: str) -> str:
    return name[:MAX_INPUT_CHARS]
