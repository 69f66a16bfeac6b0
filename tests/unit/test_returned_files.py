"""Files of a run: kept when the answer is, taken back when it is not."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from broker.files import FileStore
from broker.quotas import charge
from broker.returned_files import ReturnedFiles
from broker.storage import open_storage


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(open_storage(None, str(tmp_path / "files")), ttl_seconds=100)


def on_disk(store: FileStore) -> list[Path]:
    assert store.storage.folder is not None
    return list(store.storage.folder.glob("*/*"))


async def test_delivered_files_stay(store: FileStore) -> None:
    async with ReturnedFiles(store) as files:
        await files.take("a/b.png", b"12", last=False)
        await files.take("a/b.png", b"3", last=True)
        await files.take("empty", b"", last=True)
        files.delivered = True
    assert [(each.path, each.size_bytes, each.mime_type) for each in files.kept] == [
        ("a/b.png", 3, "image/png"),
        ("empty", 0, "application/octet-stream"),
    ]
    assert [each.filename for each in await store.listing()] == ["b.png", "empty"]


async def test_files_of_a_run_that_failed_are_taken_back(store: FileStore) -> None:
    async with ReturnedFiles(store) as files:
        await files.take("whole", b"x", last=True)
        await files.take("half", b"x" * 10**6, last=False)
    assert (on_disk(store), store.quotas.used_bytes) == ([], 0)


async def test_files_of_a_caller_that_left_are_taken_back_under_cancellation(store: FileStore) -> None:
    with anyio.CancelScope() as scope:
        async with ReturnedFiles(store) as files:
            await files.take("whole", b"x", last=True)
            await files.take("half", b"x", last=False)
            scope.cancel()
            await files.take("half", b"x" * 10**6, last=False)
    assert on_disk(store) == []


async def test_what_does_not_fit_is_named_and_the_next_one_is_kept(store: FileStore) -> None:
    store.quotas.limit_bytes = charge(100)
    async with ReturnedFiles(store) as files:
        await files.take("big", b"x" * 90, last=False)
        await files.take("big", b"x" * 90, last=False)
        await files.take("big", b"x" * 90, last=True)
        await files.take("small", b"x" * 90, last=True)
        files.delivered = True
    assert [(each.path, each.reason) for each in files.skipped] == [("big", "storage_full")]
    assert [each.path for each in files.kept] == ["small"]
    assert (store.quotas.by_tenant(), len(on_disk(store))) == ({"": charge(90)}, 2)


async def test_what_has_no_room_even_to_begin_is_named(store: FileStore) -> None:
    store.quotas.limit_bytes = charge(0)
    async with ReturnedFiles(store) as files:
        for path in ("first", "second", "third"):
            await files.take(path, b"", last=True)
        files.delivered = True
    assert [each.path for each in files.kept] == ["first"]
    assert [each.path for each in files.skipped] == ["second", "third"]
