"""Every value is documented in place, closed by the schema, and used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.rendering import CHART, loaded, rendered, sets

TEXT = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
TEMPLATES = "\n".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())
# In the schema only: a parent chart's switch for this one.
PARENTS = {"enabled"}
# A map of these has names of its own, or is one of Kubernetes' types and documented there.
WHOLE = {
    "resources", "podSecurityContext", "securityContext", "livenessProbe", "readinessProbe", "startupProbe",
    "executorResourceQuota.hard", "executorResourceQuota.limitRange.default",
    "executorResourceQuota.limitRange.defaultRequest",
}  # fmt: skip


def paths(value: Any, schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that has a text of its own, and its schema."""
    for name, inner in value.items():
        path = f"{prefix}{name}"
        found = resolved(schema["properties"][name])
        if isinstance(inner, dict) and inner and path not in WHOLE:
            yield from paths(inner, found, f"{path}.")
        else:
            yield path, found


def resolved(schema: Any) -> Any:
    return SCHEMA["definitions"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


VALUES = dict(paths(loaded(TEXT), SCHEMA))


def documented() -> Iterator[str]:
    """The paths of values.yaml that have a comment of helm-docs' form above them."""
    parents: list[str] = []
    has_text = False
    for line in TEXT.splitlines():
        key = re.match(r"( *)([A-Za-z-]+):", line)
        if key is None:
            has_text = line.lstrip().startswith("# ") and (has_text or line.lstrip().startswith("# -- "))
            continue
        parents[len(key[1]) // 2 :] = [key[2]]
        if has_text:
            yield ".".join(parents)
        has_text = False


def defaults() -> Iterator[tuple[str, str]]:
    """What `@default` says of values that are unset."""
    parents: list[str] = []
    default = ""
    for line in TEXT.splitlines():
        if key := re.match(r"( *)([A-Za-z-]+):", line):
            parents[len(key[1]) // 2 :] = [key[2]]
            if default:
                yield ".".join(parents), default
        default = line.partition("# @default -- ")[2]


DEFAULTS = dict(defaults())


def test_every_value_has_its_text():
    assert sorted(set(VALUES) - set(documented())) == []


@pytest.mark.parametrize(("path", "default"), DEFAULTS.items())
def test_the_default_that_a_text_names_is_the_default(path: str, default: str):
    assert rendered(sets(f"{path}={default}")) == rendered()


def test_schema_and_values_know_the_same_names():
    def names(schema: Any, value: Any, prefix: str) -> Iterator[str]:
        for name, inner in schema.get("properties", {}).items():
            if name not in value and prefix + name not in PARENTS:
                yield prefix + name
            elif isinstance(value.get(name), dict) and value[name] and prefix + name not in WHOLE:
                yield from names(resolved(inner), value[name], f"{prefix}{name}.")

    assert list(names(SCHEMA, loaded(TEXT), "")) == []


def test_every_object_of_the_schema_is_closed():
    def open_ones(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, dict):
            if "properties" in schema and schema.get("additionalProperties") is not False:
                yield path
            for name, inner in schema.items():
                yield from open_ones(inner, f"{path}/{name}")

    assert list(open_ones(SCHEMA, "")) == []


@pytest.mark.parametrize("path", [path for path in VALUES if path != "global"])
def test_every_value_is_used(path: str):
    """By name: templates reach it through its parents, or through the table of spellings."""
    parts = path.split(".")
    for name in {parts[0], parts[-1]}:
        assert re.search(rf"\b{name}\b", TEMPLATES), name
