"""Every answer of PostgreSQL that is no success, raised by a real server, and what the store makes of each code."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from durable_storage.errors import DataLossDetected, Fenced, PersistenceFailed, StoreUnavailable
from durable_storage.lease import Holder
from durable_storage.migrate import up
from durable_storage.postgres import PostgresStore
from durable_storage.postgres_control import PostgresControl
from durable_storage.store import Claim, Stored
from tests.contract.rigs import address, alarm, change, result
from tests.support.postgres import PostgresServer
from tests.support.proxy import Connection, Direction, Proxy
from tests.support.watching import watch_for

CLAIM = Claim("shard-0", "test", 1, "ipc:///nowhere", 0, 1)
FAULT = """
CREATE SEQUENCE faults;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('faults') <= {times} AND NEW.object_id LIKE '%bad%' THEN
        RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'raised on order';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON durable_objects FOR EACH ROW WHEN (NEW.object_id LIKE '%bad%')
EXECUTE FUNCTION fail();
"""
"""A sequence is not rolled back, so it counts what was undone."""
PASSING = ("40001", "40P01", "40003", "53100", "53200", "53400", "55006", "55P03", "57014", "58030", "25006", "26000")
"""Serialization, deadlock, completion unknown, disk, memory, limit, in use, lock, cancelled, I/O, read-only, pooler."""
FINAL = ("21000", "22003", "22021", "22P02", "22P05", "23502", "23514", "54000", "54001", "54023")
"""Rows, values, constraints and limits: of one change, whatever lies beside it."""
HOPELESS = ("42501", "42P01", "42703", "XX000", "XX001", "F0000", "P0001", "0A000")
"""Rights, tables, bugs and damage: no part of the batch would fare better."""


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """A store, opened and warm."""
    store = PostgresStore(postgres_dsn)
    await store.open(CLAIM)
    await store.commit([change("a", b"0", 1)])
    yield store
    await store.close()


async def raised(admin: asyncpg.Connection[Any]) -> int:
    """How often the trigger was reached."""
    count: int = await admin.fetchval("SELECT last_value FROM faults")
    return count


@pytest.mark.parametrize("state", PASSING)
async def test_what_may_pass_is_tried_again(store: PostgresStore, admin: asyncpg.Connection[Any], state: str) -> None:
    """fault B7: twice refused, the third time stored, once, and nobody had to know."""
    await admin.execute(FAULT.format(times=2, state=state))
    assert await store.commit([change("a", b"1", 2), change("bad", b"1", results=[result("k")])]) == {}
    assert await raised(admin) == 3
    assert await store.load([address("a"), address("bad")]) == [Stored(b"1", 2, ()), Stored(b"1", 1, ())]
    assert (store.seq, store.unavailable_since) == (2, None)


@pytest.mark.parametrize("state", FINAL)
async def test_what_is_wrong_with_one_change_is_that_changes_own(
    store: PostgresStore, admin: asyncpg.Connection[Any], state: str
) -> None:
    """fault B7, B14: the batch is halved until the guilty one stands alone; its neighbours are stored."""
    await admin.execute(FAULT.format(times=1000, state=state))
    batch = [change(f"{'bad' if i == 5 else 'good'}-{i}", b"1", alarms_set=[alarm("x")]) for i in range(8)]
    refused = await store.commit(batch)
    assert set(refused) == {5}
    assert isinstance(refused[5], PersistenceFailed)
    assert (refused[5].retryable, refused[5].outcome) == (False, "not_applied")
    assert await raised(admin) == 4
    loaded = await store.load([each.address for each in batch])
    assert [stored is None for stored in loaded] == [i == 5 for i in range(8)]


@pytest.mark.parametrize("state", HOPELESS)
async def test_what_no_part_of_a_batch_would_survive_is_refused_at_once(
    store: PostgresStore, admin: asyncpg.Connection[Any], state: str
) -> None:
    """fault B7: one attempt, a clean refusal of all of it, and the store goes on."""
    await admin.execute(FAULT.format(times=1, state=state))
    batch = [change("bad", b"1"), change("b", b"1"), change("c", b"1")]
    refused = await store.commit(batch)
    assert set(refused) == {0, 1, 2}
    assert all(isinstance(error, PersistenceFailed) and error.outcome == "not_applied" for error in refused.values())
    assert await raised(admin) == 1
    assert await store.load([each.address for each in batch]) == [None] * 3
    assert await store.commit(batch) == {}
    assert store.seq == 2


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
async def test_a_lock_that_is_waited_for_too_long(
    store: PostgresStore, admin: asyncpg.Connection[Any], postgres_dsn: str, setting: str
) -> None:
    """fault B7: 55P03 and 57014, by limits that an operator has set; the batch is stored when the lock is free."""
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET {setting} = '20ms'")
    await end_our_connections(admin)
    other = await asyncpg.connect(postgres_dsn)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM durable_objects WHERE object_id = 'a' FOR UPDATE")
    commit = asyncio.create_task(store.commit([change("a", b"1", 2)]))
    await watch_for(lambda: store.unavailable_since is not None)
    await transaction.rollback()
    await other.close()
    assert await commit == {}
    assert await store.load([address("a")]) == [Stored(b"1", 2, ())]


async def end_our_connections(admin: asyncpg.Connection[Any]) -> None:
    """They are made anew, with whatever the server says by now."""
    await admin.execute(
        """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE application_name LIKE 'durable-engine shard-0%' AND datname = current_database()"""
    )


async def test_a_deadlock_with_somebody_else_is_lost_and_tried_again(
    store: PostgresStore, admin: asyncpg.Connection[Any], postgres_dsn: str
) -> None:
    """fault B7, B16: 40P01, for real: the two of us hold what the other one wants, and we are the ones who give in."""
    other = await asyncpg.connect(postgres_dsn, server_settings={"deadlock_timeout": "5min"})
    name = await admin.fetchval("SELECT current_database()")
    # The server looks for a deadlock once, so long after it began to wait: by then there has to be one.
    await admin.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '3s'")
    await end_our_connections(admin)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await admin.fetchval(deadlocks)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM durable_objects WHERE object_id = 'a' FOR UPDATE")
    commit = asyncio.create_task(store.commit([change("a", b"1", 2), change("b", b"1")]))
    await watch_for(lambda: our_waits(admin))
    await other.execute("SELECT FROM durable_hosts FOR UPDATE")
    await transaction.rollback()
    await other.close()
    assert await commit == {}
    assert await store.load([address("a"), address("b")]) == [Stored(b"1", 2, ()), Stored(b"1", 1, ())]
    await watch_for(lambda: has_grown(admin, deadlocks, before))
    assert store.seq == 2


async def our_waits(admin: asyncpg.Connection[Any]) -> bool:
    """Whether a connection of ours waits for a lock."""
    return bool(
        await admin.fetchval(
            """SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'durable-engine shard-0%'
            AND wait_event_type = 'Lock' AND datname = current_database()"""
        )
    )


async def has_grown(admin: asyncpg.Connection[Any], query: str, before: int) -> bool:
    """Statistics come a little late."""
    await admin.execute("SELECT pg_stat_clear_snapshot()")
    return bool(await admin.fetchval(query) > before)


async def test_commits_go_on_while_tables_are_altered_and_vacuumed(
    store: PostgresStore, admin: asyncpg.Connection[Any], postgres_dsn: str
) -> None:
    """fault B16: two shards and an operator on the same tables: all wait for each other's locks, and nobody fails."""
    second = PostgresStore(postgres_dsn)
    await second.open(replace(CLAIM, host="shard-1"))
    altered = asyncio.Event()

    async def commits(each: PostgresStore, name: str) -> int:
        version = 0
        while not altered.is_set():
            version += 1
            batch = [change(f"{name}-{i}", b"%d" % version, version, alarms_set=[alarm("x")]) for i in range(20)]
            assert await each.commit(batch) == {}
        return version

    writing = [asyncio.create_task(commits(store, "one")), asyncio.create_task(commits(second, "two"))]
    for round_ in range(3):
        for table in ("durable_objects", "durable_alarms", "durable_hosts"):
            await admin.execute(f"ALTER TABLE {table} ADD COLUMN note_{round_} integer DEFAULT 7 NOT NULL")
            await admin.execute(f"VACUUM FULL {table}")
            await admin.execute(f"ALTER TABLE {table} DROP COLUMN note_{round_}")
    altered.set()
    for name, version in zip(("one", "two"), await asyncio.gather(*writing), strict=True):
        loaded = await store.load([address(f"{name}-{i}") for i in range(20)])
        assert [stored and (stored.version, len(stored.alarms)) for stored in loaded] == [(version, 1)] * 20
    await second.close()


async def test_a_server_without_a_connection_to_spare_is_waited_for(postgres_server: PostgresServer) -> None:
    """fault B7: 53300, for real: others have taken all connections; a commit and a load are done when some are free."""
    postgres_server.stop()
    postgres_server.start(max_connections="6")
    await up(postgres_server.url)
    store = PostgresStore(postgres_server.url)
    await store.open(CLAIM)
    await store.commit([change("a", b"0", 1)])
    admin = await asyncpg.connect(postgres_server.url)
    await end_our_connections(admin)
    others: list[asyncpg.Connection[Any]] = []

    async def take_them_all() -> None:
        while True:
            others.append(await asyncpg.connect(postgres_server.url))

    with pytest.raises(asyncpg.TooManyConnectionsError):
        await take_them_all()
    commit = asyncio.create_task(store.commit([change("a", b"1", 2)]))
    await watch_for(lambda: store.unavailable_since is not None)
    with pytest.raises(StoreUnavailable, match="too many clients") as caught:
        await store.load([address("a")])
    assert caught.value.retryable
    for other in others:
        await other.close()
    assert await commit == {}
    assert await store.load([address("a")]) == [Stored(b"1", 2, ())]
    await admin.close()
    await store.close()


async def test_a_server_that_is_shutting_down_is_waited_for(postgres_server: PostgresServer) -> None:
    """fault B7: 57P01 and 57P03, for real: it lets nobody in any more until the last one has left, and then starts."""
    await up(postgres_server.url)
    store = PostgresStore(postgres_server.url)
    await store.open(CLAIM)
    await store.commit([change("a", b"0", 1)])
    admin = await asyncpg.connect(postgres_server.url)
    stopping = asyncio.create_task(asyncio.to_thread(postgres_server.stop, "smart"))

    async def lets_nobody_in() -> bool:
        try:
            connection = await asyncpg.connect(postgres_server.url)
        except asyncpg.CannotConnectNowError:
            return True
        await connection.close()
        return False

    await watch_for(lets_nobody_in)
    await end_our_connections(admin)
    commit = asyncio.create_task(store.commit([change("a", b"1", 2)]))
    await watch_for(lambda: store.unavailable_since is not None)
    with pytest.raises(StoreUnavailable, match="shutting down") as caught:
        await store.load([address("a")])
    assert caught.value.retryable
    await admin.close()
    await stopping
    await asyncio.to_thread(postgres_server.start)
    assert await commit == {}
    assert await store.load([address("a")]) == [Stored(b"1", 2, ())]
    await store.close()


# What stands before the server.


@pytest.fixture
async def pooler(postgres_dsn: str) -> AsyncIterator[Proxy]:
    """A proxy that, as poolers do, tells clients of a server process of its own."""

    async def renamed(connection: Connection, way: Direction, data: bytes) -> bytes:
        head = b"K\x00\x00\x00\x0c"  # BackendKeyData: its length, the process id, the secret
        place = data.find(head)
        if way == "up" or place < 0:
            return data
        pooler.faults += 1
        place += len(head)
        return data[:place] + struct.pack(">i", 4711) + data[place + 4 :]

    async with Proxy(postgres_dsn) as pooler:
        pooler.filter = renamed
        yield pooler


async def test_a_pooler_is_warned_about(pooler: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    """fault B10: whatever sits between us and the server is found out, and told once."""
    store = PostgresStore(pooler.url)
    with caplog.at_level(logging.WARNING):
        await store.open(CLAIM)
    assert pooler.faults
    assert "a connection pooler stands before PostgreSQL" in caplog.text
    assert await store.commit([change("a", b"1")]) == {}
    await store.close()


async def test_a_pooler_before_a_server_that_may_forget_is_refused(
    pooler: Proxy, postgres_dsn: str, admin: asyncpg.Connection[Any]
) -> None:
    """fault B10: what we set for a session may not hold there, so synchronous_commit has to be on to begin with."""
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = PostgresStore(pooler.url)
    with pytest.raises(StoreUnavailable, match="synchronous_commit is off: acknowledged calls could be lost") as caught:
        await store.open(CLAIM)
    assert not caught.value.retryable
    assert await admin.fetchval("SELECT count(*) FROM durable_hosts") == 0
    direct = PostgresStore(postgres_dsn)
    await direct.open(CLAIM)
    await direct.close()


# What the server has forgotten.


@pytest.mark.parametrize(
    "turn_back",
    [
        "UPDATE durable_hosts SET seq = 1",
        "UPDATE durable_hosts SET seq = 1, epoch = 1, incarnation = gen_random_uuid()",
        "DELETE FROM durable_hosts",
    ],
    ids=["of this owner", "of an owner before", "of nobody"],
)
@pytest.mark.parametrize("what", ["confirm", "commit"])
async def test_a_database_that_was_turned_back_is_no_takeover(
    store: PostgresStore, admin: asyncpg.Connection[Any], turn_back: str, what: str
) -> None:
    """fault B9: an old backup may show an earlier owner of the row, or none: what is missing is counted anyway."""
    for version in range(2, 6):
        await store.commit([change("a", b"1", version)])
    await admin.execute(turn_back)
    end = 0 if turn_back.startswith("DELETE") else 1
    with pytest.raises(DataLossDetected, match=f"ends at commit {end}, .*: {5 - end} commits are missing"):
        await (store.confirm() if what == "confirm" else store.commit([change("a", b"2", 6)]))
    assert await admin.fetchval("SELECT version FROM durable_objects") == 5


async def test_a_takeover_is_no_loss(store: PostgresStore, postgres_dsn: str) -> None:
    """fault B9: an heir goes on from what was acknowledged, so that it is never taken for an old backup."""
    heir = PostgresStore(postgres_dsn)
    await heir.open(CLAIM)
    with pytest.raises(Fenced):
        await store.confirm()
    with pytest.raises(Fenced):
        await store.commit([change("a", b"1", 2)])
    await heir.close()


async def test_a_ruler_knows_a_database_that_was_turned_back(postgres_dsn: str, admin: asyncpg.Connection[Any]) -> None:
    """fault B9: an earlier term is not another supervisor's; the next one is later than all that ever were."""
    control = PostgresControl(postgres_dsn, lease_seconds=0)
    me = Holder.of_this_process()
    for _ in range(3):
        term = await control.acquire(me, takeover=True)
    await admin.execute("UPDATE durable_controller SET term = 1")
    with pytest.raises(DataLossDetected, match="shows term 1, and this is term 3"):
        await control.renew(term)
    assert await control.acquire(me, takeover=True, after=term) == 4
    with pytest.raises(Fenced):
        await control.renew(term)
    await control.renew(4)
    await control.close()
