"""What takes expired files away, and what a killed service left half-written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import anyio.to_thread

from broker.files import FileStore, Metadata
from broker.quotas import Kind, charge
from broker.upkeep import again_and_again

MAX_INTERVAL_SECONDS = 60.0
# Data without metadata is a file on its way for some milliseconds, and lost after this; metadata without data is one
# whose keeping was given up. Half-written local files grow at least every 30 s, or their upload is given up.
ORPHAN_SECONDS = 600.0
# A download that began just before the end of a file's time may go on for so long.
READ_GRACE_SECONDS = 30.0


async def sweep_forever(store: FileStore, count: Callable[[str, int], None]) -> None:
    """`count` is told of every file whose time was up."""

    async def once() -> None:
        for expired in await sweep(store):
            count("expired", expired.size_bytes)

    await again_and_again("files.sweep", once, min(MAX_INTERVAL_SECONDS, max(1.0, store.ttl_seconds / 4)))


async def sweep(store: FileStore) -> list[Metadata]:
    """Remove what is too old, and add up what is left. Returns the files whose time was up."""
    before = store.quotas.counted(Kind.FILES)
    data = {file_id: each async for file_id, each in store.objects("data")}
    described = {file_id: each async for file_id, each in store.objects("meta")}
    known = await store.all_metadata(list(described))
    expired = {file_id for file_id, each in known.items() if store.is_expired(each, grace_seconds=READ_GRACE_SECONDS)}
    lost_before = store.clock() - ORPHAN_SECONDS
    found, whole = {**described, **data}, data.keys() & known.keys()
    lost = {file_id for file_id in found.keys() - whole if found[file_id]["last_modified"].timestamp() < lost_before}
    for file_id in expired | lost:
        await store.remove(file_id)
    kept = {file_id: data[file_id]["size"] for file_id in data.keys() - expired - lost}
    store.quotas.recount(Kind.FILES, _by_tenant(kept, known), before)
    await _remove_half_written(store.storage.folder, lost_before)
    return [known[file_id] for file_id in expired]


def _by_tenant(sizes: Mapping[str, int], known: Mapping[str, Metadata]) -> dict[str, int]:
    """What is charged. Data on its way has no metadata that says whose it is."""
    found: dict[str, int] = {}
    for file_id, size_bytes in sizes.items():
        tenant = known[file_id].tenant if file_id in known else ""
        found[tenant] = found.get(tenant, 0) + charge(size_bytes)
    return found


async def _remove_half_written(folder: Path | None, before: float) -> None:
    """A local file is written under `<name>#<n>` and renamed when complete; no listing shows such files."""
    if folder is not None:
        await anyio.to_thread.run_sync(_remove_old, folder, before)


def _remove_old(folder: Path, before: float) -> None:
    for path in folder.glob("*/*#*"):
        try:
            if path.lstat().st_mtime < before:
                path.unlink()
        except FileNotFoundError:
            continue
