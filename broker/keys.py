"""The key file: which key is which tenant's, and what a tenant may take. Pure.

One JSON object a line; empty lines and those that begin with # are remarks. A line is a key or a tenant's limits:

    # the search team
    {"tenant": "search", "sha256": "<64 hex digits>", "note": "production"}
    {"tenant": "search", "sha256": "<64 hex digits>", "note": "its next one, until both are rolled out"}
    {"tenant": "search", "concurrency": 16, "runs_per_minute": 600, "queue": 64, "file_quota_mb": 2048, "sessions": 8}

`code-interpreter keys TENANT` makes a key and prints its line. A key is 256 random bits, so its SHA-256 is enough at
rest: there is nothing to guess, and a slow hash, which is for passwords, would only slow each request.
A limit that is not named has its default (the settings `BROKER_TENANT_…`); `null` is none.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.limits import Limits, Overrides

KEY_PREFIX = "ci_"
"""So that people, and scanners of repositories, see what it is."""
_TENANT = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z"


class KeysBroken(Exception):
    """The text names the line and what is wrong with it, and quotes nothing of it: it may hold a key by mistake."""


class Line(Overrides, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenant: Annotated[str, Meta(pattern=_TENANT)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | UnsetType = UNSET
    note: str = ""


class Keys(msgspec.Struct, frozen=True):
    """What the file says."""

    tenants: Mapping[bytes, str]
    """By the digest of each key."""
    overrides: Mapping[str, Overrides]

    @property
    def names(self) -> list[str]:
        """Each tenant once, in the order of the file."""
        return list(dict.fromkeys(self.tenants.values()))

    def tenant_of(self, key: str) -> str | None:
        """Whose key it is, or None."""
        given, found = digest(key), None
        # SECURITY: every key is looked at, and each compared in constant time: how long it takes says nothing about
        # which of them was nearly right, or where in the file it stands (tests/unit/test_keys.py).
        for known, tenant in self.tenants.items():
            if hmac.compare_digest(known, given):
                found = tenant
        return found

    def limits_of(self, tenant: str, defaults: Limits) -> Limits:
        overrides = self.overrides.get(tenant)
        return defaults if overrides is None else overrides.over(defaults)


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def line_for(tenant: str, key: str, note: str = "") -> str:
    """What is to be stored of a key. Raises `KeysBroken` where that is no name for a tenant."""
    stored = {"tenant": tenant, "sha256": digest(key).hex(), **({"note": note} if note else {})}
    text = msgspec.json.encode(stored)
    _decoded(text, "the line")
    return text.decode()


def parse(data: bytes) -> Keys:
    """Raises `KeysBroken`."""
    lines = list(enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1))
    decoded = [(number, _decoded(line, f"line {number}")) for number, line in lines if _is_entry(line)]
    tenants = _tenants(decoded)
    if not tenants:
        raise KeysBroken("there is no key in it; `code-interpreter keys TENANT` makes one")
    return Keys(tenants, _overrides(decoded, set(tenants.values())))


def _is_entry(line: bytes) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(b"#")


def _decoded(line: bytes, where: str) -> Line:
    try:
        found = msgspec.json.decode(line, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysBroken(f"{where}: {_without_quotes(error)}") from None
    if (found.sha256 is UNSET) is not bool(found.given):
        raise KeysBroken(f"{where}: it must have either a sha256 or limits")
    return found


def _without_quotes(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if "unknown field" in str(error):
        known = ", ".join(sorted(Line.__struct_fields__))
        return f"it has a field that is not known; there are {known}"
    return str(error)


def _tenants(lines: Iterable[tuple[int, Line]]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for number, line in lines:
        if isinstance(line.sha256, str):
            key = bytes.fromhex(line.sha256)
            if key in found:
                raise KeysBroken(f"line {number}: this key is in it already")
            found[key] = line.tenant
    return found


def _overrides(lines: Iterable[tuple[int, Line]], tenants: set[str]) -> dict[str, Overrides]:
    found: dict[str, Overrides] = {}
    for number, line in lines:
        if line.sha256 is not UNSET:
            continue
        # A limit that holds nobody is a slip of the pen, and would be found out by a flood.
        if line.tenant not in tenants or line.tenant in found:
            why = "has its limits already" if line.tenant in found else "has no key"
            raise KeysBroken(f"line {number}: limits of a tenant that {why}")
        found[line.tenant] = line
    return found
