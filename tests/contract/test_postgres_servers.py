"""A whole PostgreSQL server that crashes, is set up unsafely, or lets us do too little."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest

from durable_storage.errors import PersistenceFailed, StoreUnavailable
from durable_storage.migrate import up
from durable_storage.postgres import PostgresStore
from durable_storage.store import Claim, Stored
from tests.contract.rigs import address, change
from tests.support.postgres import PostgresServer
from tests.support.watching import watch_for

CLAIM = Claim("shard-0", "test", 1, "ipc:///nowhere", 0, 1)


async def test_a_server_that_crashes_and_comes_back(postgres_server: PostgresServer) -> None:
    """fault B1: commits wait and end well, loads say that they may be repeated."""
    await up(postgres_server.url)
    store = PostgresStore(postgres_server.url)
    await store.open(CLAIM)
    await store.commit([change("a", b"0", 1)])
    for version in range(2, 4):
        await asyncio.to_thread(postgres_server.stop, "immediate")
        commit = asyncio.create_task(store.commit([change("a", b"1", version)]))
        await watch_for(lambda: store.unavailable_since is not None)
        with pytest.raises(StoreUnavailable) as caught:
            await store.load([address("a")])
        assert caught.value.retryable
        await asyncio.to_thread(postgres_server.start)
        assert await commit == {}
        assert await store.load([address("a")]) == [Stored(b"1", version, ())]
    assert store.seq == 3
    await store.close()


async def test_unsafe_servers_are_warned_about_and_made_safe_where_possible(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """fault B10: fsync is the server's business; synchronous_commit is ours."""
    postgres_server.stop()
    postgres_server.start(fsync="off", synchronous_commit="off")
    await up(postgres_server.url)
    store = PostgresStore(postgres_server.url)
    with caplog.at_level(logging.WARNING):
        await store.open(CLAIM)
    assert "fsync=off" in caplog.text
    assert store._link is not None
    assert await store._link.fetchval("SELECT current_setting('synchronous_commit')") == "on"
    await store.close()


async def test_a_role_without_rights_is_told_so(postgres_server: PostgresServer) -> None:
    """fault B11: at the start, and in the middle; nothing is stored by halves."""
    await up(postgres_server.url)
    admin = await asyncpg.connect(postgres_server.url)
    await admin.execute("CREATE ROLE app LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app")
    store = PostgresStore(postgres_server.url.replace("durable@", "app@"))
    with pytest.raises(StoreUnavailable, match="lacks rights") as caught:
        await store.open(CLAIM)
    assert not caught.value.retryable
    await admin.execute("GRANT SELECT, INSERT, UPDATE ON durable_hosts, durable_controller TO app")
    await store.open(CLAIM)
    refused = await store.commit([change("a", b"1"), change("b", b"2")])
    assert set(refused) == {0, 1}
    assert all(isinstance(error, PersistenceFailed) and "lacks rights" in error.message for error in refused.values())
    await admin.execute("GRANT INSERT, UPDATE ON durable_objects TO app")
    assert await store.commit([change("a", b"1"), change("b", b"2")]) == {}
    assert store.seq == 1
    await admin.execute("ALTER ROLE app CONNECTION LIMIT 0")
    await admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'")
    commit = asyncio.create_task(store.commit([change("a", b"3", 2)]))
    await watch_for(lambda: store.unavailable_since is not None)
    await admin.execute("ALTER ROLE app CONNECTION LIMIT 10")
    assert await commit == {}
    await admin.close()
    await store.close()
