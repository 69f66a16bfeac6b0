"""What JSON Schema cannot say of a request, for schemathesis, which knows the schema alone (test_outsiders_view.py)."""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis

WHOLE_NUMBERS = ("timeout_ms", "ttl_seconds")
KEY = "Idempotency-Key"
_serial = itertools.count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    if case.meta is None or case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    if case.headers and KEY in case.headers:
        # One that came with another body is refused.
        case.headers[KEY] = f"{case.headers[KEY][:200]}-{next(_serial)}"
    if case.media_type == "application/json" and isinstance(case.body, dict):
        case.body = {name: _sayable(name, value) for name, value in case.body.items()}


def _sayable(name: str, value: Any) -> Any:
    """Numbers without a decimal point: to JSON Schema `5.0` is an integer. Paths that do not clash."""
    if name in WHOLE_NUMBERS and isinstance(value, float):
        return int(value)
    if name == "files" and isinstance(value, list):
        return [{**each, "path": f"{number}/{each['path']}"} for number, each in enumerate(value)]
    return value
