"""One setting's text to its value, or a sentence that says what would be valid. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import inspect

_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


_MEANT = {"trace": "debug", "verbose": "debug", "critical": "error", "fatal": "error", "docker": "local"}
"""Words of others for what we have, whose spelling is near to the wrong one of ours."""


class SettingsError(Exception):
    """The start stops here. The text names the variable, its value, and the nearest valid one."""


def nearest_name(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    return (difflib.get_close_matches(name, known, n=1, cutoff=0) or known)[0]


def parse(variable: str, text: str, kind: object) -> Any:
    """The value of `text` as a field of type `kind`. Raises `SettingsError`."""
    info = plain(inspect.type_info(kind))
    try:
        return _PARSERS[type(info)](text.strip(), info)
    except ValueError as error:
        raise SettingsError(f"{variable}={text}: {error}.") from None


def plain(info: inspect.Type) -> inspect.Type:
    """The type below its description and beside `None`: an absent value is an absent variable."""
    if isinstance(info, inspect.Metadata):
        return plain(info.type)
    if isinstance(info, inspect.UnionType):
        return plain(next(each for each in info.types if not isinstance(each, inspect.NoneType)))
    return info


def _integer(text: str, info: Any) -> int:
    value = _number(text)
    return int(_checked(value, info, "a whole number", valid=value.is_integer() and text.lstrip("+-").isdecimal()))


def _float(text: str, info: Any) -> float:
    value = _number(text)
    return _checked(value, info, "a number", valid=math.isfinite(value))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _checked(value: float, info: Any, wanted: str, *, valid: bool) -> float:
    low, high = float(info.ge or 0), math.inf if info.le is None else float(info.le)
    if valid and low <= value <= high:
        return value
    near = min(max(round(value), low), high) if math.isfinite(value) else low
    bounds = f"from {low:.0f} up" if info.le is None else f"from {low:.0f} to {high:.0f}"
    raise ValueError(f"needs {wanted} {bounds}; the nearest valid one is {near:.0f}")


def _choice(text: str, info: Any) -> str:
    if text.lower() in info.values:
        return text.lower()
    near = nearest_name(_MEANT.get(text.lower(), text.lower()), info.values)
    raise ValueError(f"needs one of {', '.join(info.values)}; the nearest is {near}")


def _switch(text: str, _info: Any) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError(
            f"needs true or false; the nearest is {str(_WORDS[nearest_name(text.lower(), _WORDS)]).lower()}"
        )
    return _WORDS[text.lower()]


def _several(text: str, _info: Any) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _text(text: str, _info: Any) -> str:
    if "\0" in text or not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text


_PARSERS: dict[type, Callable[[str, Any], object]] = {
    inspect.IntType: _integer,
    inspect.FloatType: _float,
    inspect.LiteralType: _choice,
    inspect.BoolType: _switch,
    inspect.VarTupleType: _several,
    inspect.StrType: _text,
}
