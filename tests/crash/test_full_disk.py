"""Disks that are full for real: what was acknowledged stays, and all goes on by itself once there is space again."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from durable_engine import Client
from durable_engine.errors import DurableError
from durable_storage.errors import PersistenceFailed, StoreUnavailable
from durable_storage.sqlite_control import SqliteControl
from tests.contract.rigs import SqliteRig, address, alarm, change
from tests.crash.conftest import MakeServer
from tests.crash.load import Load, advance, assert_nothing_lost, counts
from tests.support import postgres
from tests.support.eventually import eventually
from tests.support.postgres import NoPostgres, PostgresServer
from tests.support.server import is_alive
from tests.support.small_disk import SmallDisk, small_disk

MEGABYTE = 1 << 20
SEGMENT_BYTES = 16 * MEGABYTE


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """Room for a small store, or for a few segments of PostgreSQL's log; in a place that its user can reach."""
    place = postgres.shared_directory() / f"disk-{uuid4().hex[:8]}"
    with small_disk(place, 5 * SEGMENT_BYTES) as disk:
        yield disk
    place.rmdir()


@pytest.fixture
def server_on_disk(disk: SmallDisk, postgres_server: PostgresServer) -> PostgresServer:
    """PostgreSQL with its write-ahead log on the small disk."""
    postgres_server.stop()
    log = postgres_server.directory / "data" / "pg_wal"
    subprocess.run(["cp", "-a", log, disk.directory / "pg_wal"], check=True)
    subprocess.run(["rm", "-r", log], check=True)
    log.symlink_to(disk.directory / "pg_wal")
    return postgres_server.start()


def use_up_segments(server: PostgresServer) -> None:
    """Go on to the next segment of the log, again and again, until there is no space for one."""

    async def switch() -> None:
        admin = await asyncpg.connect(server.url)
        while True:
            await admin.execute("CREATE TABLE IF NOT EXISTS used_up (); DROP TABLE used_up; SELECT pg_switch_wal()")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        asyncio.run(switch())


@pytest.mark.processes
@pytest.mark.postgres
def test_a_full_disk_of_postgresql_loses_nothing(
    make_server: MakeServer, server_on_disk: PostgresServer, disk: SmallDisk
) -> None:
    """fault B8: the server panics and does not start again without space; the engine waits, and is not touched."""
    server = make_server(server_on_disk.url).start()
    shards = [(shard["pid"], shard["restarts"]) for shard in server.shards()]
    with Load(server.endpoint, exactly_once=True) as load:
        advance(load, 100)
        running = server_on_disk.pid
        disk.fill()
        use_up_segments(server_on_disk)
        eventually(lambda: not is_alive(running), state=lambda: server_on_disk.log[-2000:])
        assert "No space left on device" in server_on_disk.log
        with pytest.raises(NoPostgres):
            server_on_disk.start()
        with server.client() as client, pytest.raises(DurableError) as caught:
            client.call_by_name("Counter", "elsewhere", "increment", [], {}, timeout=0.3)
        assert caught.value.retryable or caught.value.outcome == "unknown"

        disk.clear()
        server_on_disk.start()
        advance(load, 100)

    assert_nothing_lost(load, counts(server.endpoint))
    assert [(shard["pid"], shard["restarts"]) for shard in server.shards()] == shards
    server.stop()


@pytest.mark.processes
def test_a_full_disk_under_sqlite_loses_nothing(make_server: MakeServer, disk: SmallDisk) -> None:
    """fault B8, B13: calls are refused with nothing done, reads are served, and all goes on with space again."""
    server = make_server(f"sqlite:///{disk.directory}/store").start()
    shards = [(shard["pid"], shard["restarts"]) for shard in server.shards()]
    with Load(server.endpoint, exactly_once=True) as load:
        advance(load, 100)
        with server.client() as client:
            assert client.call_by_name("Counter", "quiet", "increment", [], {}, timeout=20) == 1
            disk.fill()
            server.wait_for_log("no space is left for")
            assert client.call_by_name("Counter", "quiet", "get", [], {}, timeout=20) == 1
            error = eventually(lambda: refusal(client), state=lambda: server.log[-2000:])
        assert (type(error), error.outcome) == (PersistenceFailed, "not_applied")
        assert "no space is left" in error.message
        disk.clear()
        advance(load, 100)

    assert_nothing_lost(load, counts(server.endpoint))
    assert [(shard["pid"], shard["restarts"]) for shard in server.shards()] == shards
    server.stop()


def refusal(client: Client) -> DurableError | None:
    """The error of a call, unless there was still a little space for it."""
    try:
        client.call_by_name("Counter", "elsewhere", "increment", [], {}, timeout=5)
    except DurableError as error:
        return error
    return None


async def test_a_store_on_a_full_disk_says_so_at_every_door(disk: SmallDisk) -> None:
    """fault B8, B13: a commit, an owner, a ruler, and a new store; each goes through with space, and none by halves."""
    rig = SqliteRig(Path(disk.directory, "store"))
    await rig.control(shards=1)
    store = await rig.open()
    await store.commit([change("a", b"1", 1)])
    disk.fill()
    batch = [change(str(number), b"1" * 3000, alarms_set=[alarm("x")]) for number in range(100)]
    refused = await store.commit(batch)
    assert set(refused) == set(range(100))
    assert all(isinstance(error, PersistenceFailed) and error.retryable for error in refused.values())
    assert await store.list_ids("", "Counter", None, 200) == ["a"]
    await store.confirm()
    with pytest.raises(StoreUnavailable, match="no space is left") as caught:
        await SqliteControl(disk.directory / "another").prepare(shards=1, migrate=None)
    assert caught.value.retryable
    disk.clear()
    await SqliteControl(disk.directory / "another").prepare(shards=1, migrate=None)
    assert await store.commit(batch) == {}
    heir = await rig.open(acknowledged_seq=store.seq)
    assert [stored.version for stored in await heir.load([address("a"), address("7")])] == [1, 1]
    await rig.close()
