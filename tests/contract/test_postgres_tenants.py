"""What concerns all tenants of a PostgreSQL database goes on without those that cannot be used."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

import asyncpg
import pytest

from durable_storage.errors import StoreUnavailable
from durable_storage.migrate import down, up
from durable_storage.postgres import PostgresStore
from durable_storage.store import Claim, Served
from tests.contract.rigs import NOW, PostgresRig, address, alarm, change, result
from tests.support.postgres import PostgresServer

SERVED = Served(("Counter",), ())
LATER = NOW + timedelta(hours=2)
CLAIM = Claim("shard-0", "test", 1, "ipc:///nowhere", 0, 1)
RIGHTS = "GRANT ALL ON SCHEMA {0} TO app; GRANT ALL ON ALL TABLES IN SCHEMA {0} TO app"


def later() -> datetime:
    """Two hours from NOW, when everything has expired."""
    return LATER


async def prefixes(store: PostgresStore) -> list[str]:
    """The tenants whose alarms are found."""
    return [due.address.prefix for due in await store.due_alarms(SERVED, LATER, 10)]


async def test_a_tenant_that_cannot_be_used_does_not_stop_the_others(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Of an older version, or without rights: told once, left out, and found again once it is set right."""
    tenants = ["", "acme", "closed", "old", "zoo"]
    for prefix in tenants:
        await up(postgres_server.url, prefix=prefix)
    owner = PostgresStore(postgres_server.url, now=lambda: NOW)
    await owner.open(CLAIM)
    await owner.commit(
        [
            change(address("a", prefix=prefix), b"1", alarms_set=[alarm("x", minutes)], results=[result("key")])
            for minutes, prefix in enumerate(tenants)
        ]
    )
    await owner.close()
    await down(postgres_server.url, to=2, prefix="old")
    admin = await asyncpg.connect(postgres_server.url)
    await admin.execute("CREATE ROLE app LOGIN")
    for schema in ("public", "acme", "old", "zoo"):
        await admin.execute(RIGHTS.format(schema))

    store = PostgresStore(postgres_server.url.replace("durable@", "app@"), now=later)
    await store.open(CLAIM)
    with caplog.at_level(logging.WARNING, "durable_storage"):
        for purged in (4, 0, 0):
            assert await prefixes(store) == ["", "acme", "zoo"]
            assert await store.purge_results(10) == purged
    told = [record.getMessage() for record in caplog.records if record.name.endswith("postgres_reads")]
    closed, old, unpurged = sorted(told)
    assert unpurged.startswith("purge_results leaves schema 'closed' out")
    assert "'closed'" in closed
    assert "lacks rights" in closed
    assert "--prefix old" in old
    assert store._reads is not None
    assert store._reads._link.connects == 1

    await up(postgres_server.url, prefix="old")
    await admin.execute(RIGHTS.format("closed"))
    assert await prefixes(store) == tenants
    assert await store.purge_results(10) == 1
    await admin.close()
    await store.close()


async def test_a_server_that_is_away_is_no_matter_of_one_tenant(postgres_server: PostgresServer) -> None:
    """Whoever looks for alarms is told, and may look again."""
    for prefix in ("", "acme"):
        await up(postgres_server.url, prefix=prefix)
    store = PostgresStore(postgres_server.url, now=lambda: NOW)
    await store.open(CLAIM)
    await store.commit(
        [change(address("a", prefix=prefix), alarms_set=[alarm("x", len(prefix))]) for prefix in ("", "acme")]
    )
    assert await prefixes(store) == ["", "acme"]
    await asyncio.to_thread(postgres_server.stop, "immediate")
    with pytest.raises(StoreUnavailable) as caught:
        await prefixes(store)
    assert caught.value.retryable
    await asyncio.to_thread(postgres_server.start)
    assert await prefixes(store) == ["", "acme"]
    await store.close()


async def test_another_engine_in_the_same_database_is_no_tenant(postgres_rig: PostgresRig) -> None:
    """Its alarms are its own, and so are its results; of partitions that were counted without a prefix, at that."""
    admin = await asyncpg.connect(postgres_rig.url)
    await admin.execute("CREATE SCHEMA other")
    await admin.close()
    other_rig = PostgresRig(f"{postgres_rig.url}?search_path=other")
    await up(other_rig.url)
    store, other = await postgres_rig.open(), await other_rig.open()
    await store.commit([change("a", alarms_set=[alarm("x")])])
    await other.commit([change("b", alarms_set=[alarm("x")], results=[result("key")])])
    assert [due.address for due in await store.due_alarms(SERVED, LATER, 10)] == [address("a")]
    assert [due.address for due in await other.due_alarms(SERVED, LATER, 10)] == [address("b")]
    postgres_rig.time = other_rig.time = LATER
    assert [await store.purge_results(10), await other.purge_results(10)] == [0, 1]
    await other_rig.close()
