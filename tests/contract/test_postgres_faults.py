"""Connections that break in the middle of a commit, servers that go away, statements that arrive too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from durable_storage.errors import DataLossDetected, Fenced, StoreUnavailable
from durable_storage.postgres import PostgresStore
from durable_storage.store import Claim, Stored
from tests.contract.rigs import address, alarm, change, result
from tests.support.proxy import Connection, Direction, Proxy
from tests.support.watching import watch_for

CLAIM = Claim("shard-0", "test", 1, "ipc:///nowhere", 0, 1)


@pytest.fixture
async def proxy(postgres_dsn: str) -> AsyncIterator[Proxy]:
    """The way to the database."""
    async with Proxy(postgres_dsn) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[PostgresStore]:
    """A store behind the proxy, opened and warm: its statement is prepared."""
    store = PostgresStore(proxy.url)
    await store.open(CLAIM)
    await store.commit([change("a", b"0", 1)])
    yield store
    await store.close()


async def row_of_host(admin: asyncpg.Connection[Any]) -> tuple[int, int]:
    """(epoch, seq) as they rest."""
    return tuple(await admin.fetchrow("SELECT epoch, seq FROM durable_hosts WHERE host = 'shard-0'"))


async def backends_waiting_for_a_lock(admin: asyncpg.Connection[Any]) -> list[int]:
    """Process ids of our backends that wait."""
    query = """SELECT pid FROM pg_stat_activity
        WHERE application_name LIKE 'durable-engine shard-0%' AND wait_event_type = 'Lock'
        AND datname = current_database()"""
    return [row[0] for row in await admin.fetch(query)]


def cut_after(proxy: Proxy, direction: Direction, count: int) -> None:
    """Cut the commit connection after `count` more bytes in a direction."""
    target = proxy.connections[0]
    limit = target.seen[direction] + count

    async def cutting(connection: Connection, way: Direction, data: bytes) -> bytes:
        if connection is not target or way != direction:
            return data
        if connection.seen[way] + len(data) < limit:
            return data
        proxy.faults += 1
        rest = data[: max(0, limit - connection.seen[way])]
        if way == "up":
            connection.server.write(rest)
            await connection.server.drain()
        connection.cut()
        return b""

    proxy.filter = cutting


@pytest.mark.parametrize("count", [0, 1, 7, 20, 40])
async def test_a_commit_whose_answer_is_lost_is_applied_once(
    proxy: Proxy, store: PostgresStore, admin: asyncpg.Connection[Any], count: int
) -> None:
    """fault B4: the server executed it; the store finds out instead of sending it again, which its key would refuse."""
    await store.commit([change("a", b"1", 2, alarms_set=[alarm("x")], results=[result("one")])])
    cut_after(proxy, "down", count)
    assert await store.commit([change("a", b"2", 3, alarms_set=[alarm("y")], results=[result("two")])]) == {}
    assert proxy.faults == 1
    assert await row_of_host(admin) == (store.epoch, store.seq) == (2, 3)
    assert await store.load([address("a")]) == [Stored(b"2", 3, (alarm("x"), alarm("y")))]


@pytest.mark.parametrize("count", [0, 1, 50, 150, 4000])
async def test_a_commit_cut_on_its_way_is_applied_once(
    proxy: Proxy, store: PostgresStore, admin: asyncpg.Connection[Any], count: int
) -> None:
    """fault B4: the server saw a part of it, and knows nothing of the whole."""
    cut_after(proxy, "up", count)
    batch = [change(f"id-{i}", b"%d" % i, 2) for i in range(200)]
    assert await store.commit(batch) == {}
    assert proxy.faults == 1
    assert await row_of_host(admin) == (store.epoch, store.seq) == (2, 2)
    assert await admin.fetchval("SELECT count(*) FROM durable_objects WHERE version = 2") == 200


async def test_a_statement_that_arrives_after_its_outcome_was_resolved_does_nothing(
    proxy: Proxy, store: PostgresStore, admin: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """fault B4: the network delivers it late; merely reading `seq` again would have let it in."""

    async def no_right_to_terminate(*_: object) -> None:
        return None

    monkeypatch.setattr(store, "_terminate", no_right_to_terminate)
    held: list[bytes] = []
    target = proxy.connections[0]

    async def holding(connection: Connection, way: Direction, data: bytes) -> bytes:
        if connection is not target:
            return data
        if way == "up":
            proxy.faults += 1
            held.append(data)
            # The client is gone, the server does not hear of it.
            connection.client.transport.abort()
            await asyncio.Event().wait()
        return data

    proxy.filter = holding
    assert await store.commit([change("a", b'"first"', 2)]) == {}
    assert await store.commit([change("a", b'"second"', 3)]) == {}
    executed = asyncio.Event()

    async def listening(connection: Connection, way: Direction, data: bytes) -> bytes:
        if connection is target and way == "down" and b"DE001" in data:
            executed.set()
        return data

    proxy.filter = listening
    target.server.write(b"".join(held))
    await executed.wait()
    assert proxy.faults == 1
    assert await row_of_host(admin) == (store.epoch, store.seq) == (2, 3)
    assert await store.load([address("a")]) == [Stored(b'"second"', 3, ())]


async def test_a_bump_whose_answer_is_lost_is_known_as_our_own(
    proxy: Proxy, store: PostgresStore, admin: asyncpg.Connection[Any]
) -> None:
    """fault B4: our epoch is one higher than we know, and it was not somebody else."""
    cut_after(proxy, "down", 0)
    cut_commit = proxy.filter
    bumping: set[int] = set()

    async def cutting(connection: Connection, way: Direction, data: bytes) -> bytes:
        if connection.number == 0:
            return await cut_commit(connection, way, data)
        if proxy.faults < 4:
            if way == "up" and b"SET epoch = epoch + 1" in data:
                bumping.add(connection.number)
            elif way == "down" and connection.number in bumping and b"epoch\0" not in data:
                # What comes after the description of the prepared bump is its answer.
                proxy.faults += 1
                connection.cut()
                return b""
        return data

    proxy.filter = cutting
    assert await store.commit([change("a", b"1", 2)]) == {}
    assert proxy.faults == 4
    assert await row_of_host(admin) == (store.epoch, store.seq) == (5, 2)
    assert await store.commit([change("a", b"2", 3)]) == {}


async def test_a_terminated_backend_is_replaced_without_a_word(
    store: PostgresStore, admin: asyncpg.Connection[Any]
) -> None:
    """fault B3: between commits and before loads."""
    for version in range(2, 5):
        ended = await admin.fetchval(
            """SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
            WHERE application_name LIKE 'durable-engine shard-0%' AND datname = current_database()"""
        )
        assert ended
        assert await store.load([address("a")]) == [Stored(b"%d" % (version - 2), version - 1, ())]
        assert await store.commit([change("a", b"%d" % (version - 1), version)]) == {}
    assert await row_of_host(admin) == (store.epoch, store.seq)
    assert store.seq == 4


async def test_a_backend_terminated_in_the_middle_of_a_commit(
    store: PostgresStore, admin: asyncpg.Connection[Any], postgres_dsn: str
) -> None:
    """fault B3: the statement was waiting for a lock when it was ended: it is resolved, and sent again."""
    blocker = await asyncpg.connect(postgres_dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM durable_hosts FOR UPDATE")
    commit = asyncio.create_task(store.commit([change("a", b"1", 2)]))
    (waiting,) = await watch_for(lambda: backends_waiting_for_a_lock(admin))
    assert await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", waiting)
    await watch_for(lambda: store.unavailable_since is not None)
    await transaction.rollback()
    await blocker.close()
    assert await commit == {}
    assert store.unavailable_since is None
    assert await row_of_host(admin) == (store.epoch, store.seq) == (2, 2)
    assert await store.load([address("a")]) == [Stored(b"1", 2, ())]


async def test_a_cancelled_commit_is_not_mistaken_for_the_next_one(
    store: PostgresStore, admin: asyncpg.Connection[Any], proxy: Proxy
) -> None:
    """Nobody asks any more what became of it; the next batch is stored all the same."""
    arrived = asyncio.Event()

    async def arriving(connection: Connection, way: Direction, data: bytes) -> bytes:
        if way == "down" and connection.number == 0:
            proxy.faults += 1
            arrived.set()
            await asyncio.Event().wait()
        return data

    proxy.filter = arriving
    commit = asyncio.create_task(store.commit([change("a", b"1", 2)]))
    await arrived.wait()
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert await store.commit([change("b", b"2")]) == {}
    assert proxy.faults
    assert await store.load([address("a"), address("b")]) == [Stored(b"1", 2, ()), Stored(b"2", 1, ())]
    assert await row_of_host(admin) == (store.epoch, store.seq) == (2, 3)


async def test_a_statement_that_waits_during_a_takeover_writes_nothing(
    store: PostgresStore, admin: asyncpg.Connection[Any], postgres_dsn: str
) -> None:
    """It wakes up to a row that is not its own any more."""
    blocker = await asyncpg.connect(postgres_dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("UPDATE durable_hosts SET epoch = epoch + 1, incarnation = gen_random_uuid()")
    batch = [change("a", b'"zombie"', 2), change("b", delete=True, alarms_set=[alarm("x")], results=[result("k")])]
    commit = asyncio.create_task(store.commit(batch))
    await watch_for(lambda: backends_waiting_for_a_lock(admin))
    await transaction.commit()
    await blocker.close()
    with pytest.raises(Fenced):
        await commit
    assert await store.load([address("a"), address("b")]) == [Stored(b"0", 1, ()), None]
    assert await row_of_host(admin) == (2, 1)


async def test_opening_ends_the_connections_of_the_owner_before(
    store: PostgresStore, admin: asyncpg.Connection[Any], postgres_dsn: str
) -> None:
    """A stopped process cannot hold the row's lock against its heir."""
    (pid,) = await admin.fetchrow("SELECT backend_pid FROM durable_hosts")
    heir = PostgresStore(postgres_dsn)
    await heir.open(CLAIM)

    async def is_gone() -> bool:
        return not await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)

    await watch_for(is_gone)
    await heir.close()


async def test_a_black_hole_ends_at_the_deadline(proxy: Proxy, admin: asyncpg.Connection[Any]) -> None:
    """fault B5: nothing is answered and nothing is reset: the store gives up on the connection by itself."""
    store = PostgresStore(proxy.url, deadline_seconds=0.2)
    await store.open(CLAIM)
    await store.confirm()
    healthy = asyncio.Event()

    async def swallowing(connection: Connection, way: Direction, data: bytes) -> bytes:
        proxy.faults += 1
        await healthy.wait()
        return b""

    normal, proxy.filter = proxy.filter, swallowing
    commit = asyncio.create_task(store.commit([change("a", b"1", 1)]))
    await watch_for(lambda: store.unavailable_since is not None)
    with pytest.raises(StoreUnavailable) as caught:
        await store.load([address("a")])
    assert caught.value.retryable
    with pytest.raises(StoreUnavailable):
        await store.confirm()
    proxy.filter = normal
    assert await commit == {}
    assert proxy.faults > 0
    assert store.unavailable_since is None
    assert await row_of_host(admin) == (store.epoch, store.seq)
    healthy.set()
    await store.close()


async def test_tables_altered_under_way_are_not_noticed(store: PostgresStore, admin: asyncpg.Connection[Any]) -> None:
    """fault B12: prepared statements are prepared anew."""
    await store.load([address("a")])
    for version, ddl in enumerate(
        [
            "ALTER TABLE durable_objects ADD COLUMN note text",
            "ALTER TABLE durable_objects ALTER COLUMN version TYPE numeric",
            "ALTER TABLE durable_objects ALTER COLUMN version TYPE bigint",
            "CREATE INDEX ON durable_objects (updated_at)",
            "ALTER TABLE durable_hosts ALTER COLUMN seq TYPE numeric",
            "ALTER TABLE durable_hosts ALTER COLUMN seq TYPE bigint",
        ],
        start=2,
    ):
        await admin.execute(ddl)
        assert await store.commit([change("a", b"1", version)]) == {}
        (stored,) = await store.load([address("a")])
        assert stored.version == version


async def test_a_database_that_shows_less_than_we_wrote_is_not_written_to(
    proxy: Proxy, store: PostgresStore, admin: asyncpg.Connection[Any]
) -> None:
    """fault B9: a replica that was left behind is promoted while we run."""
    await store.commit([change("a", b"1", 2)])
    await admin.execute("UPDATE durable_hosts SET seq = 1")
    with pytest.raises(DataLossDetected, match="ends at commit 1, but commit 2"):
        await store.commit([change("a", b"2", 3)])
    assert await admin.fetchval("SELECT version FROM durable_objects") == 2


async def test_a_read_only_server_is_waited_out(
    store: PostgresStore, admin: asyncpg.Connection[Any], postgres_dsn: str
) -> None:
    """fault B7: a standby becomes the primary some time."""
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await admin.execute(
        """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE application_name LIKE 'durable-engine shard-0%' AND datname = current_database()"""
    )
    commit = asyncio.create_task(store.commit([change("a", b"1", 2)]))
    await watch_for(lambda: store.unavailable_since is not None)
    other = PostgresStore(postgres_dsn)
    with pytest.raises(StoreUnavailable, match="read-only"):
        await other.open(CLAIM)
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert await commit == {}
    assert store.unavailable_since is None
