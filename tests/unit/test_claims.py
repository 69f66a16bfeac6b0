"""Claims in a folder: made once, readable by every replica, gone when old."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from broker.claims import Claim, Claims, Record, claim_name
from broker.claims_sweep import sweep_claims
from broker.errors import StorageFailed, StorageFull
from broker.output_log import OutputLog
from broker.quotas import Kind, Quotas, charge
from broker.storage import open_storage

TTL = 3600.0


def claims_in(folder: Path, quota_bytes: int = 0) -> Claims:
    storage = open_storage(None, str(folder / "files"))
    return Claims(storage, ttl_seconds=TTL, run_seconds=100, quotas=Quotas(quota_bytes))


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    return claims_in(tmp_path)


def on_disk(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in (folder / "files").glob("*/*"))


def record(text: bytes = b"hi") -> Record:
    log = OutputLog()
    log.add("stdout", text)
    return Record(execution_id="id", output=log, result=None, failure=None)


async def test_of_many_who_claim_at_once_one_has_it_and_all_know_which(tmp_path: Path) -> None:
    standing: list[Claim] = []
    replicas = [claims_in(tmp_path) for _ in range(20)]

    async def make(claims: Claims) -> None:
        standing.append(await claims.make("name", claims.new("digest")))

    async with anyio.create_task_group() as group:
        for each in replicas:
            group.start_soon(make, each)
    assert len({claim.nonce for claim in standing}) == 1
    assert len(standing) == 20


async def test_a_claim_that_the_store_made_at_its_second_try_is_not_lost_when_it_cannot_be_read(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = claims._create

    async def tried_twice(name: str, claim: Claim) -> bool:
        return await create(name, claim) and await create(name, claim)

    async def fails(_name: str) -> Claim | None:
        raise StorageFailed("broken")

    with monkeypatch.context() as store:
        store.setattr(claims, "_create", tried_twice)
        store.setattr(claims, "_read", fails)
        with pytest.raises(StorageFailed):
            await claims.make("name", claims.new("digest"))
    standing = await claims.make("name", claims.new("digest"))
    assert claims.takes_over(standing, "digest")


async def test_a_claim_is_made_though_the_clock_jumps_and_another_forgets_it(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, now = claims._create, claims.clock()

    async def overtaken(name: str, claim: Claim) -> bool:
        monkeypatch.setattr(claims, "_create", create)
        claims.clock = lambda: now + 10_000
        await claims.make("other", claims.new("digest"))
        return await create(name, claim)

    monkeypatch.setattr(claims, "_create", overtaken)
    claim = claims.new("digest")
    assert await claims.make("name", claim) == claim


async def test_a_released_claim_can_be_made_again(claims: Claims) -> None:
    await claims.make("name", claims.new("digest"))
    await claims.release("name")
    second = claims.new("digest")
    assert await claims.make("name", second) == second


async def test_an_outcome_is_what_was_recorded(claims: Claims) -> None:
    claim = claims.new("digest")
    assert await claims.outcome(claim) is None
    await claims.record(claim, record())
    assert await claims.outcome(claim) == record()


async def test_an_outcome_that_cannot_be_read_is_none(claims: Claims, tmp_path: Path) -> None:
    claim = claims.new("digest")
    (tmp_path / "files" / "outcomes" / claim.nonce).write_bytes(b"\xc1")
    assert await claims.outcome(claim) is None


async def test_a_claim_that_cannot_be_read_is_not_run_over(claims: Claims, tmp_path: Path) -> None:
    (tmp_path / "files" / "claims" / "name").write_bytes(b"{")
    with pytest.raises(StorageFailed, match="another key"):
        await claims.make("name", claims.new("digest"))


async def test_when_outcomes_are_at_the_quota_no_key_is_taken_but_what_stands_is_found(tmp_path: Path) -> None:
    claims = claims_in(tmp_path, quota_bytes=charge(100))
    standing = await claims.make("name", claims.new("digest"))
    await claims.record(standing, record(b"x" * 100))
    with pytest.raises(StorageFull, match=f"Stored files would take .* at most {charge(100)}"):
        await claims.make("another", claims.new("digest"))
    assert await claims.make("name", claims.new("digest")) == standing


async def test_an_outcome_counts_against_its_own_tenants_quota_with_its_files(tmp_path: Path) -> None:
    claims, quota_bytes = claims_in(tmp_path), charge(0) + charge(100)
    claims.quotas.add(Kind.FILES, "ana", charge(100))
    claim = claims.new("digest", "ana")
    await claims.record(await claims.make("name", claim, quota_bytes=quota_bytes), record())
    for tenant in ("ana", "bob"):
        claims.quotas.add(Kind.FILES, tenant, 1)
    with pytest.raises(StorageFull, match="This tenant's files"):
        await claims.make("another", claims.new("digest", "ana"), quota_bytes=quota_bytes)
    other = claims.new("digest", "bob")
    assert await claims.make("another", other, quota_bytes=quota_bytes) == other


async def test_a_sweep_counts_each_tenants_outcomes(tmp_path: Path) -> None:
    claims, again = claims_in(tmp_path), claims_in(tmp_path)
    for tenant in ("ana", "", "x.y-z_1"):
        await claims.record(claims.new("digest", tenant), record())
    await sweep_claims(again)
    assert again.quotas.by_tenant() == claims.quotas.by_tenant()
    assert set(again.quotas.by_tenant()) == {"ana", "", "x.y-z_1"}


async def test_old_claims_and_outcomes_are_swept_and_the_rest_is_counted(claims: Claims, tmp_path: Path) -> None:
    claim = await claims.make("name", claims.new("digest"))
    await claims.record(claim, record())
    size = claims.quotas.used_bytes
    assert size > charge(0)
    assert (await sweep_claims(claims), claims.quotas.used_bytes) == (0, size)
    later = claims.clock() + TTL
    claims.clock = lambda: later
    assert await sweep_claims(claims) == 2
    assert (claims.quotas.used_bytes, on_disk(tmp_path)) == (0, [])


@pytest.mark.parametrize("key", ["../meta/x", "a/b", "..", "/etc/passwd", "%2e%2e", "x" * 255])
def test_no_key_names_a_path(key: str) -> None:
    name = claim_name("caller", key)
    assert len(name) == 64
    assert name.isalnum()


def test_a_caller_cannot_spell_anothers_key() -> None:
    names = [("a", "b"), ("", "ab"), ("ab", ""), ("a", '","b'), ('a","', "b")]
    assert len({claim_name(caller, key) for caller, key in names}) == len(names)
