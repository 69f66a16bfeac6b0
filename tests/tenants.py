"""Services with keys, and clients of several tenants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec

from broker.keys import line_for

KEYS = {"ana": "key of ana", "bob": "key of bob"}


def key_file(folder: Path, *, text: str | None = None, ana: dict[str, Any] | None = None) -> str:
    """A file with a key for each tenant, and the limits given for one; written over in one step."""
    lines = [line_for(tenant, key) for tenant, key in KEYS.items()]
    lines += [msgspec.json.encode({"tenant": "ana", **ana}).decode()] if ana else []
    new, path = folder / "keys.new", folder / "keys.jsonl"
    new.write_text("\n".join(lines) if text is None else text)
    new.chmod(0o600)
    new.replace(path)
    return str(path)


def client_of(url: str, tenant: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {KEYS[tenant]}"}
    return httpx.Client(base_url=url, timeout=60, trust_env=False, headers=headers)
