"""What takes claims away whose time is up, and their outcomes."""

from __future__ import annotations

from functools import partial

import obstore

from broker.claims import Claims
from broker.errors import FileMissing
from broker.quotas import Kind, charge
from broker.storage import our_errors
from broker.sweep import MAX_INTERVAL_SECONDS
from broker.upkeep import again_and_again


async def sweep_claims_forever(claims: Claims) -> None:
    interval_seconds = min(MAX_INTERVAL_SECONDS, max(1.0, claims.ttl_seconds / 4))
    await again_and_again("claims.sweep", partial(sweep_claims, claims), interval_seconds)


async def sweep_claims(claims: Claims) -> int:
    """Remove what is too old, and add up the outcomes that are left; returns how many objects went.

    Claims first: one whose outcome is gone would be taken for a run that nobody knows the end of.
    """
    removed, before = 0, claims.quotas.counted(Kind.OUTCOMES)
    for folder in ("claims", "outcomes"):
        for found in await _objects(claims, folder):
            removed += _is_old(claims, found) and await _remove_if_old(claims, found["path"])
    claims.quotas.recount(Kind.OUTCOMES, _by_tenant(await _objects(claims, "outcomes")), before)
    return removed


def _by_tenant(outcomes: list[obstore.ObjectMeta]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in outcomes:
        tenant = each["path"].partition("@")[2]
        found[tenant] = found.get(tenant, 0) + charge(each["size"])
    return found


async def _objects(claims: Claims, folder: str) -> list[obstore.ObjectMeta]:
    with our_errors():
        return [each async for batch in obstore.list(claims.storage.objects, prefix=folder) for each in batch]


async def _remove_if_old(claims: Claims, path: str) -> bool:
    """Looked at again right before: another replica may have swept it, and a new run may have claimed the key."""
    try:
        with our_errors("gone"):
            if not _is_old(claims, await obstore.head_async(claims.storage.objects, path)):
                return False
            await obstore.delete_async(claims.storage.objects, path)
    except FileMissing:
        return False
    return True


def _is_old(claims: Claims, found: obstore.ObjectMeta) -> bool:
    return claims.clock() - found["last_modified"].timestamp() >= claims.ttl_seconds
