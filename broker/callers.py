"""Who may call an address: host names and web origins. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec


class CallerRules(msgspec.Struct, frozen=True, kw_only=True):
    loopback: bool
    """Bound to this machine only: then its own names are expected, and no page of another origin."""
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()


def rules(bind_host: str, *, allowed_hosts: tuple[str, ...], cors_origins: tuple[str, ...]) -> CallerRules:
    return CallerRules(
        loopback=is_loopback(bind_host),
        hosts=frozenset(host.lower() for host in allowed_hosts),
        origins=frozenset(origin.lower().rstrip("/") for origin in cors_origins),
    )


def refusal(known: CallerRules, *, host: str, origin: str | None) -> str | None:
    """Why this caller gets 403, or None."""
    # SECURITY: a page that points a name of its own at 127.0.0.1 (DNS rebinding) shows that name as Host; one that
    # posts here from elsewhere (drive-by) shows its Origin (tests/integration/test_http_callers.py).
    if not _host_is_known(known, host):
        return f"Host '{host[:100]}' is not served here. BROKER_ALLOWED_HOSTS adds names."
    if known.loopback and origin is not None and not _origin_is_known(known, origin, host):
        return f"Origin '{origin[:100]}' may not call this address. BROKER_CORS_ORIGINS adds origins."
    return None


def _host_is_known(known: CallerRules, host: str) -> bool:
    name = host_name(host)
    if name in known.hosts or (known.loopback and is_loopback(name)):
        return True
    # Elsewhere names vary, unless the operator listed them; a bare address (a probe's) is never a rebound name.
    return not known.loopback and (not known.hosts or _address(name) is not None)


def _origin_is_known(known: CallerRules, origin: str, host: str) -> bool:
    if "*" in known.origins or origin.lower() in known.origins:
        return True
    return origin.lower() == f"http://{host.lower()}"


def host_name(host: str) -> str:
    """A Host header without its port, in lower case; empty when it is none."""
    # SECURITY: what stands before an @ is no part of a host name, and no Host header has it.
    if "@" in host:
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    address = _address(name)
    return address.is_loopback if address is not None else name == "localhost" or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
