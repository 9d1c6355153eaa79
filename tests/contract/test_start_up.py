"""What a shard reads when it starts: its own row and the next alarms, whatever else is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw
import asyncpg
import pytest

from durable_storage.store import AlarmRow
from tests.contract.rigs import PostgresRig, SqliteRig, change
from tests.shards.harness import Harness
from tests.shards.objects import Counter

OBJECTS = 3_000
WAIT_SECONDS = 60.0
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


async def fill(rig: Any, start: int, end: int) -> None:
    """Objects, each with an alarm of the far future."""
    store = await rig.open()
    far = datetime.now(UTC) + timedelta(days=3650)
    rows = [change(f"o{n}", b'{"count":1,"log":[]}', alarms_set=(AlarmRow("x", far),)) for n in range(start, end)]
    for first in range(0, len(rows), 1_000):
        await store.commit(rows[first : first + 1_000])
    await store.close()


async def start_and_stop(rig: Any) -> None:
    """A whole shard, as its process starts it."""
    async with Harness([Counter], store=rig.new_store()):
        pass


@pytest.fixture
def steps() -> Iterator[list[int]]:
    """What each statement costs that SQLite runs from now on, in instructions of its virtual machine."""
    counted: list[int] = []

    def note(event: dict[str, Any]) -> None:
        counted.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])

    def watch(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, note)

    apsw.connection_hooks.append(watch)
    yield counted
    apsw.connection_hooks.remove(watch)


async def test_starting_costs_sqlite_the_same_however_much_is_stored(sqlite_rig: SqliteRig, steps: list[int]) -> None:
    """fault F4: instructions are counted, not seconds; three hundred times as many rows change nothing."""
    costs = []
    for start, end in ((0, 10), (10, OBJECTS)):
        await fill(sqlite_rig, start, end)
        steps.clear()
        await start_and_stop(sqlite_rig)
        costs.append(sum(steps))
    assert 0 < costs[1] < 1.5 * costs[0] < OBJECTS, costs


@pytest.mark.postgres
async def test_starting_reads_no_objects_of_postgresql(postgres_rig: PostgresRig) -> None:
    """fault F4: the server's own counts of rows read; that of its own row is the only one to grow."""
    await (await postgres_rig.control(1)).close()
    await fill(postgres_rig, 0, OBJECTS)
    before = await rows_read(postgres_rig.url)
    await start_and_stop(postgres_rig)
    after = await rows_read(postgres_rig.url)
    assert after["durable_hosts"] > before["durable_hosts"]
    assert after["durable_objects"] - before["durable_objects"] < 10
    assert after["durable_alarms"] - before["durable_alarms"] < 10


async def rows_read(url: str) -> dict[str, int]:
    """By table, since the database was made. A connection's counts are there once it is gone from the list of them."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while await connection.fetchval(OTHERS):  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.02)
        read = "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) AS count FROM pg_stat_user_tables"
        return {row["relname"]: row["count"] for row in await connection.fetch(read)}
    finally:
        await connection.close()
