"""As much of JSON Schema as `/openapi.json` uses: values are checked against it, and made from it.

What it does not know it refuses, so that nothing is left unchecked in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]

KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
SAYS_NOTHING = {"title", "description", "default", "example", "examples", "format"}
KNOWN = SAYS_NOTHING | {
    *("$ref", "type", "enum", "const", "anyOf", "allOf", "properties", "required", "items", "minimum", "maximum"),
    *("maxItems", "minItems", "pattern", "propertyNames", "additionalProperties", "prefixItems"),
}


class Schemas:
    """The components of one document."""

    def __init__(self, document: Schema) -> None:
        self._document = document

    def resolved(self, schema: Schema) -> Schema:
        unknown = set(schema) - KNOWN
        assert not unknown, f"{unknown} is no part of JSON Schema that this file knows"
        found: Any = self._document
        for part in schema.get("$ref", "").removeprefix("#/").split("/") if "$ref" in schema else ():
            found = found[part]
        return self.resolved(found) if "$ref" in schema else schema

    # --- checking -----------------------------------------------------------------------------

    def faults(self, value: Any, given: Schema, at: str = "") -> Iterator[str]:
        """What is wrong with a value."""
        schema = self.resolved(given)
        kind = schema.get("type")
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON Schema has one kind of number: 5.0 is 5
        if kind and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))):
            yield f"{at}: {value!r:.80} is no {kind}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at}: {value!r:.80} is none of {schema['enum']}"
        if "anyOf" in schema and all(any(self.faults(value, each, at)) for each in schema["anyOf"]):
            yield f"{at}: {value!r:.80} is none of the forms it may have"
        for each in schema.get("allOf", ()):
            yield from self.faults(value, each, at)
        yield from self._inner_faults(value, schema, at)

    def _inner_faults(self, value: Any, schema: Schema, at: str) -> Iterator[str]:
        match value:
            case dict():
                yield from self._object_faults(value, schema, at)
            case list():
                for number, each in enumerate(value):
                    yield from self.faults(each, schema.get("items", {}), f"{at}[{number}]")
            case str() if not re.search(schema.get("pattern", ""), value):
                yield f"{at}: {value!r:.80} does not match {schema['pattern']}"
            case bool():
                return
            case int() | float() if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
                yield f"{at}: {value} is out of its range"

    def _object_faults(self, value: Schema, schema: Schema, at: str) -> Iterator[str]:
        known = schema.get("properties", {})
        yield from (f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, each in value.items():
            yield from self.faults(each, known.get(name, schema.get("additionalProperties", {})), f"{at}.{name}")

    # --- making -------------------------------------------------------------------------------

    def values(self, given: Schema) -> st.SearchStrategy[Any]:
        """Values that are as documented, and small."""
        schema = self.resolved(given)
        if "anyOf" in schema:
            return st.one_of(*(self.values(each) for each in schema["anyOf"]))
        match schema["type"]:
            case "null":
                return st.none()
            case "boolean":
                return st.booleans()
            case "integer":
                return st.integers(schema["minimum"], schema["maximum"])
            case "string":
                return self._texts(schema)
            case "array":
                return st.lists(self.values(schema["items"]), max_size=3)
        return self._objects(schema)

    def _texts(self, schema: Schema) -> st.SearchStrategy[str]:
        # Lone surrogates are no text of JSON's.
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
        return texts.filter(lambda text: re.search(schema.get("pattern", ""), text) is not None)

    def _objects(self, schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
        if "properties" not in schema:
            names = self.values({"type": "string", **schema.get("propertyNames", {})})
            return st.dictionaries(names, self.values(schema["additionalProperties"]), max_size=3)
        fields = {name: self.values(each) for name, each in schema["properties"].items()}
        required = {name: fields.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional=fields)
