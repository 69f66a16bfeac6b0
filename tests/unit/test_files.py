"""The file store: invisible until complete, gone when old, and nothing of a client's in a path."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import obstore
import pytest

from broker import sweep as sweeping
from broker.errors import FileMissing, StorageFailed, StorageFull
from broker.files import FileStore
from broker.quotas import Kind, charge
from broker.storage import LOCAL_PIECE_BYTES, open_storage
from broker.sweep import ORPHAN_SECONDS, READ_GRACE_SECONDS, sweep, sweep_forever

START = 1_000_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class FileStoreAt(FileStore):
    """A store in a folder, with a clock that a test turns."""

    def __init__(self, folder: Path, *, quota_bytes: int = 0) -> None:
        self.folder = folder
        self.turn = Clock()
        super().__init__(open_storage(None, str(folder)), ttl_seconds=100, quota_bytes=quota_bytes, clock=self.turn)

    def on_disk(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*/*"))


@pytest.fixture
def store(tmp_path: Path) -> FileStoreAt:
    return FileStoreAt(tmp_path / "files")


async def put(store: FileStore, data: bytes, name: str = "a.txt") -> str:
    writer = store.write()
    await writer.write(data)
    return (await store.keep(writer, name)).file_id


async def content(store: FileStore, file_id: str) -> bytes:
    found = await store.find(file_id)
    return b"".join([piece async for piece in store.read(file_id, found.size_bytes)])


def age(path: Path, moment: float) -> None:
    os.utime(path, (moment, moment))


@pytest.mark.parametrize(
    "size", [0, 1, LOCAL_PIECE_BYTES - 1, LOCAL_PIECE_BYTES, LOCAL_PIECE_BYTES + 1, 3 * LOCAL_PIECE_BYTES]
)
async def test_what_goes_in_comes_out(store: FileStoreAt, size: int) -> None:
    data = os.urandom(size)
    file_id = await put(store, data)
    assert await content(store, file_id) == data
    assert (await store.find(file_id)).upload_time == START


async def test_a_file_cannot_be_found_before_it_is_kept(store: FileStoreAt) -> None:
    writer = store.write()
    await writer.write(b"x" * LOCAL_PIECE_BYTES * 2)
    assert await store.listing() == []
    with pytest.raises(FileMissing):
        await store.find(writer.file_id)
    await writer.close()
    assert await store.listing() == []
    await store.keep(writer, "a")
    assert [each.file_id for each in await store.listing()] == [writer.file_id]


@pytest.mark.parametrize("size", [0, 10, LOCAL_PIECE_BYTES * 2])
async def test_an_abandoned_file_leaves_nothing(store: FileStoreAt, size: int) -> None:
    writer = store.write()
    await writer.write(b"x" * size)
    await writer.abandon()
    await writer.abandon()
    assert (store.on_disk(), store.quotas.used_bytes) == ([], 0)


async def test_a_write_that_is_cancelled_leaves_nothing(store: FileStoreAt) -> None:
    writer = store.write()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await writer.write(b"x" * LOCAL_PIECE_BYTES * 4)
    await writer.abandon()
    assert store.on_disk() == []


async def test_a_file_that_nobody_wants_while_it_is_being_kept_leaves_nothing(
    store: FileStoreAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_async = obstore.put_async

    async def put_and_unheard_of(*args: Any, **options: Any) -> None:
        await put_async(*args, **options)
        scope.cancel()
        await anyio.sleep_forever()

    writer = store.write()
    await writer.write(b"x")
    monkeypatch.setattr(obstore, "put_async", put_and_unheard_of)
    with anyio.CancelScope() as scope:
        await store.keep(writer, "a.txt")
    assert store.on_disk() == [writer.file_id] * 2
    await writer.abandon()
    assert (store.on_disk(), await store.listing(), store.quotas.used_bytes) == ([], [], 0)


async def test_a_file_expires_on_read_at_once_and_on_disk_at_the_next_sweep(store: FileStoreAt) -> None:
    file_id = await put(store, b"x")
    store.turn.now += 99
    assert await content(store, file_id) == b"x"
    store.turn.now += 1
    with pytest.raises(FileMissing, match=f"File with ID '{file_id}' not found"):
        await store.find(file_id)
    assert await store.listing() == []
    assert await sweep(store) == []
    store.turn.now += READ_GRACE_SECONDS
    assert [each.filename for each in await sweep(store)] == ["a.txt"]
    assert store.on_disk() == []


async def test_age_survives_a_restart_and_a_copied_folder(store: FileStoreAt) -> None:
    file_id = await put(store, b"x")
    for path in store.folder.glob("*/*"):
        age(path, START + 1000)
    again = FileStoreAt(store.folder)
    again.turn.now = START + 99
    assert await content(again, file_id) == b"x"
    again.turn.now = START + 100 + READ_GRACE_SECONDS
    assert len(await sweep(again)) == 1


async def test_what_a_killed_service_left_is_swept_once_it_is_certain(store: FileStoreAt) -> None:
    kept = await put(store, b"kept")
    lost, partial, empty = str(uuid.uuid4()), str(uuid.uuid4()), await put(store, b"gone")
    (store.folder / "data" / empty).unlink()
    (store.folder / "data" / lost).write_bytes(b"complete but without metadata")
    (store.folder / "data" / f"{partial}#1").write_bytes(b"half")
    (store.folder / "meta" / f"{partial}#1").write_bytes(b"{")
    for path in store.folder.glob("*/*"):
        age(path, START)
    store.turn.now = START + 10
    await sweep(store)
    assert len(store.on_disk()) == 6
    store.ttl_seconds = 10**6
    store.turn.now = START + ORPHAN_SECONDS + 1
    await sweep(store)
    assert store.on_disk() == [kept, kept]


@pytest.mark.parametrize("data", [b"", b"{", b"null", b'{"filename": 1}', b"\xff"])
async def test_metadata_that_cannot_be_read_is_a_file_that_is_not_there(store: FileStoreAt, data: bytes) -> None:
    file_id = await put(store, b"x")
    (store.folder / "meta" / file_id).write_bytes(data)
    with pytest.raises(FileMissing):
        await store.find(file_id)
    assert await store.listing() == []


async def test_data_that_is_shorter_than_its_metadata_is_not_there(store: FileStoreAt) -> None:
    file_id = await put(store, b"x" * 100)
    (store.folder / "data" / file_id).write_bytes(b"x" * 50)
    with pytest.raises((FileMissing, StorageFailed)):
        await content(store, file_id)


@pytest.mark.parametrize(
    "file_id",
    ["", "..", "../meta/x", "/etc/passwd", "x" * 5000, "\0", str(uuid.uuid4()).upper(), str(uuid.uuid4()) + "\n"],
)
async def test_what_is_no_uuid_never_reaches_a_path(
    store: FileStoreAt, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "metadata", None)
    for call in (store.find, store.delete):
        with pytest.raises(FileMissing):
            await call(file_id)


async def test_deleting_removes_both_objects_once(store: FileStoreAt) -> None:
    file_id = await put(store, b"x")
    await store.delete(file_id)
    assert (store.on_disk(), store.quotas.used_bytes) == ([], 0)
    with pytest.raises(FileMissing):
        await store.delete(file_id)


async def test_of_many_who_delete_it_at_once_one_gives_its_bytes_back(store: FileStoreAt) -> None:
    await put(store, b"x" * 100)
    file_id, deleted = await put(store, b"x" * 200), []

    async def delete() -> None:
        with suppress(FileMissing):
            await store.delete(file_id)
            deleted.append(1)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(delete)
    assert (len(deleted), store.quotas.used_bytes) == (1, charge(100))


async def test_the_quota_counts_what_is_stored_and_what_is_under_way(tmp_path: Path) -> None:
    store = FileStoreAt(tmp_path / "files", quota_bytes=charge(400) + charge(600))
    await put(store, b"x" * 400)
    writer = store.write()
    await writer.write(b"x" * 600)
    with pytest.raises(StorageFull, match="Stored files would take"):
        await writer.write(b"x")
    await writer.abandon()
    other = store.write()
    await other.write(b"x" * 600)
    await store.keep(other, "b")
    assert (store.quotas.total(Kind.FILES), store.quotas.total(Kind.WRITING)) == (charge(400) + charge(600), 0)


async def test_empty_files_are_not_for_nothing(tmp_path: Path) -> None:
    store = FileStoreAt(tmp_path / "files", quota_bytes=3 * charge(0))
    for _ in range(3):
        await put(store, b"")
    with pytest.raises(StorageFull):
        await put(store, b"")
    await sweep(store)
    assert store.quotas.used_bytes == 3 * charge(0)


async def test_a_sweep_counts_anew_what_is_stored(tmp_path: Path) -> None:
    store = FileStoreAt(tmp_path / "files")
    first = await put(store, b"x" * 10)
    await put(store, b"x" * 20)
    again = FileStoreAt(tmp_path / "files")
    await sweep(again)
    assert again.quotas.used_bytes == charge(10) + charge(20)
    await again.delete(first)
    await sweep(again)
    assert again.quotas.used_bytes == charge(20)


async def test_a_sweep_that_fails_is_tried_again(store: FileStoreAt, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def failing(_store: FileStore) -> list[object]:
        calls.append(1)
        if len(calls) == 3:
            scope.cancel()
        raise StorageFailed("x")

    monkeypatch.setattr(sweeping, "sweep", failing)
    monkeypatch.setattr(sweeping, "MAX_INTERVAL_SECONDS", 0.0)
    with anyio.CancelScope() as scope:
        await sweep_forever(store, lambda *_: None)
    assert len(calls) == 3


async def test_a_failing_disk_is_a_failed_store(store: FileStoreAt) -> None:
    (store.folder / "data").rmdir()
    (store.folder / "data").write_text("")
    with pytest.raises(StorageFailed):
        await put(store, b"x" * LOCAL_PIECE_BYTES * 3)


async def put_of(store: FileStore, tenant: str, data: bytes, *, quota_bytes: int = 0) -> str:
    writer = store.write(tenant, quota_bytes=quota_bytes)
    try:
        await writer.write(data)
    except StorageFull:
        await writer.abandon()
        raise
    return (await store.keep(writer, "a.txt")).file_id


async def test_a_file_is_its_tenants_and_of_nobody_who_does_not_say_who(store: FileStoreAt) -> None:
    file_id = await put_of(store, "ana", b"x")
    assert (await store.find(file_id, "ana")).tenant == "ana"
    for other in ("bob", ""):
        with pytest.raises(FileMissing, match=f"File with ID '{file_id}' not found"):
            await store.find(file_id, other)
        with pytest.raises(FileMissing):
            await store.delete(file_id, other)
        assert await store.listing(other) == []


async def test_what_is_stored_without_keys_is_written_as_it_always_was(store: FileStoreAt) -> None:
    file_id = await put(store, b"x")
    assert b"tenant" not in (store.folder / "meta" / file_id).read_bytes()


async def test_a_tenants_use_is_counted_as_files_come_and_go_and_again_after_a_restart(store: FileStoreAt) -> None:
    quota_bytes = charge(50) + charge(50)
    kept = await put_of(store, "ana", b"x" * 60, quota_bytes=quota_bytes)
    with pytest.raises(StorageFull, match=f"This tenant's files would take {quota_bytes + 10} bytes"):
        await put_of(store, "ana", b"x" * 50, quota_bytes=quota_bytes)
    await put_of(store, "bob", b"x" * 70, quota_bytes=quota_bytes)
    again = FileStoreAt(store.folder)
    await sweep(again)
    assert store.quotas.by_tenant() == again.quotas.by_tenant() == {"ana": charge(60), "bob": charge(70)}
    await again.delete(kept, "ana")
    again.turn.now += 100 + READ_GRACE_SECONDS
    await sweep(again)
    assert again.quotas.by_tenant() == {}, "nothing is kept of tenants that have none"
