"""Reading all that is stored, without owning it: one suite for the stores that keep something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from durable_storage import postgres_scan, sqlite_scan
from durable_storage.address import partition_of, partitions_of_shard
from durable_storage.errors import SchemaMismatch, StoreUnavailable
from durable_storage.migrate import down
from durable_storage.scan import Scan, open_scan, pages, shards_of
from durable_storage.urls import StoreUrlError
from tests.contract.rigs import PostgresRig, Rig, SqliteRig, address, change

SHARDS = 3


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Rig, str]:
    """A place to store in, and its URL."""
    if request.param == "sqlite":
        return SqliteRig(tmp_path / "store"), f"sqlite:///{tmp_path}/store"
    url = str(request.getfixturevalue("postgres_dsn"))
    return PostgresRig(url), url


@pytest.fixture
async def kept(place: tuple[Rig, str]) -> tuple[Rig, str]:
    """The same, prepared for three shards."""
    await place[0].control(shards=SHARDS)
    return place


async def store(rig: Rig, prefix: str = "", **objects: list[str]) -> None:
    """Objects by class, each with a state that names it."""
    for shard in range(SHARDS):
        ours = partitions_of_shard(shard, SHARDS)
        owner = await rig.open(shard)
        addresses = [address(each, name, prefix) for name, ids in objects.items() for each in ids]
        changes = [change(each, f'"{each.object_id}"'.encode()) for each in addresses if partition_of(*each) in ours]
        assert await owner.commit(changes) == {}


async def everything(scan: Scan, object_type: str, rows_max: int = 1000) -> list[tuple[str, bytes, int]]:
    """All rows of a class, in the order of ids over all shards."""
    rows = [
        tuple(row)
        for shard in range(scan.shards)
        async for page in pages(scan, object_type, shard=shard, rows_max=rows_max)
        for row in page
    ]
    return sorted(rows)  # type: ignore[arg-type]


async def test_every_row_of_a_class_is_read_once_while_its_owners_serve(kept: tuple[Rig, str]) -> None:
    """fault F9: page by page, in any size; other classes and tenants are not in it."""
    rig, url = kept
    ids = [f"id-{n:03}" for n in range(100)] + ["é", "\U0001f600", "a/b%"]
    await rig.add_tenant("acme")
    await store(rig, Counter=ids, Cart=["x"])
    await store(rig, "acme", Counter=["other"])
    scan = await open_scan(url)
    expected = sorted((each, f'"{each}"'.encode(), 1) for each in ids)
    for rows_max in (1, 7, 1000):
        assert await everything(scan, "Counter", rows_max) == expected
    assert await scan.classes() == ["Cart", "Counter"]
    assert (await scan.count("Counter"), await scan.count("Nothing")) == (len(ids), 0)
    assert await everything(scan, "Nothing") == []
    await scan.close()
    tenant = await open_scan(url, "acme")
    assert await everything(tenant, "Counter") == [("other", b'"other"', 1)]
    await tenant.close()
    await rig.close()


async def test_a_page_is_bounded_in_bytes(kept: tuple[Rig, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends behind the first state that is over the bound, and there is always one state in it."""
    rig, url = kept
    await store(rig, Counter=["a" * 10, "b" * 10, "c" * 100, "d" * 10])
    for module in (postgres_scan, sqlite_scan):
        monkeypatch.setattr(module, "PAGE_BYTES_MAX", 20)
    scan = await open_scan(url)
    sizes = [
        [len(row.state) for row in page]
        for shard in range(scan.shards)
        async for page in pages(scan, "Counter", shard=shard, rows_max=10)
    ]
    assert all(sum(page[:-1]) < 20 for page in sizes)
    assert sorted(size for page in sizes for size in page) == [12, 12, 12, 102]
    await scan.close()
    await rig.close()


async def test_rows_that_appear_meanwhile_do_no_harm(kept: tuple[Rig, str]) -> None:
    """A row behind the last page is met, one before it is not, and none is met twice."""
    rig, url = kept
    await store(rig, Counter=["b", "d"])
    scan = await open_scan(url)
    seen = [row.object_id for shard in range(scan.shards) for row in await scan.page("Counter", shard, "", 10)]
    assert sorted(seen) == ["b", "d"]
    await store(rig, Counter=["a", "e"])
    later = [row.object_id for shard in range(scan.shards) for row in await scan.page("Counter", shard, "d", 10)]
    assert later == ["e"]
    await scan.close()
    await rig.close()


async def test_a_store_of_another_version_is_refused(kept: tuple[Rig, str]) -> None:
    """With the command to run."""
    rig, url = kept
    await rig.close()
    await down(url, to=0)
    with pytest.raises(SchemaMismatch, match="run `durable-engine migrate up"):
        await open_scan(url)


async def test_a_tenant_without_objects_is_empty_or_named(kept: tuple[Rig, str]) -> None:
    """SQLite begins a tenant with its first write; PostgreSQL has to be told first."""
    rig, url = kept
    if isinstance(rig, SqliteRig):
        scan = await open_scan(url, "nobody")
        assert await scan.classes() == []
        await scan.close()
    else:
        with pytest.raises(SchemaMismatch, match="--prefix nobody"):
            await open_scan(url, "nobody")
    await rig.close()


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Nor is a store in memory looked for."""
    asyncio.run(_look_for_nothing(tmp_path))
    assert list(tmp_path.iterdir()) == []


async def _look_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatch, match="there is no store in"):
        await open_scan(f"sqlite:///{tmp_path}/nothing")
    with pytest.raises(SchemaMismatch, match="there is no store in"):
        shards_of(f"sqlite:///{tmp_path}/nothing")
    with pytest.raises(StoreUnavailable):
        await open_scan("postgresql://127.0.0.1:1/shop")
    for look in (open_scan("memory://"), open_scan("memory://name")):
        with pytest.raises(StoreUrlError, match="memory:// keeps nothing"):
            await look
    with pytest.raises(StoreUrlError, match="memory:// keeps nothing"):
        shards_of("memory://")
