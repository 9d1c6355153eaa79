"""The worker that has no engine: batches of upserts, one commit each.

Arguments: `sqlite` and a file, or `postgres` and a URL. A batch has one upsert for each caller of the load; those of
one id become one row, as an engine would have it. One batch is under way at a time, and all its calls take as long.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import count as count_from
from itertools import cycle, islice

import apsw
import asyncpg
import uvloop

from durable_bench.peers.postgres import TABLE
from durable_bench.peers.workers.closed_loop import serve, take_stdout
from durable_bench.peers.workers.load import Load, Outcome, histogram_us

Rows = list[tuple[str, int]]

_SQLITE_TABLE = "CREATE TABLE IF NOT EXISTS counters (id TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID"
_SQLITE_ADD = """
INSERT INTO counters (id, count) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET count = count + excluded.count
"""
_POSTGRES_ADD = """
INSERT INTO counters (id, count) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (id) DO UPDATE SET count = counters.count + excluded.count
"""


class Batches:
    """A loop of commits, and the sum afterwards."""

    def __init__(self, commit: Callable[[Rows], Awaitable[None]], total: Callable[[str], Awaitable[int]]) -> None:
        self._commit = commit
        self._total = total

    async def drive(self, load: Load) -> Outcome:
        """Batches of as many calls as there are callers."""
        ids, clock, batches = _ids(load), time.perf_counter, array("d")
        calls, cpu, begun = 0, time.process_time(), time.perf_counter()
        sent = begun
        while sent < begun + load.seconds and (batch := list(islice(ids, load.callers))):
            await self._commit(list(Counter(batch).items()))
            replied = clock()
            batches.append(replied - sent)
            calls += len(batch)
            sent = replied
        latency = {us: number * load.callers for us, number in histogram_us(batches).items()}
        return Outcome(calls, sent - begun, latency, time.process_time() - cpu, {}, min(calls, load.count))

    async def total(self, prefix: str, count: int) -> int:
        """All ids of the prefix."""
        return await self._total(prefix)


def _ids(load: Load) -> Iterator[str]:
    if load.once:
        return (load.id(number) for number in islice(count_from(), load.count))
    return cycle([load.id(number) for number in range(load.count)])


async def on_sqlite(path: str, results: int) -> None:
    """WAL and synchronous=FULL: the log is synced in each commit."""
    database = apsw.Connection(path)
    database.pragma("journal_mode", "wal")
    database.pragma("synchronous", "full")
    database.execute(_SQLITE_TABLE)

    async def commit(rows: Rows) -> None:
        with database:
            database.executemany(_SQLITE_ADD, rows)

    async def total(prefix: str) -> int:
        query = "SELECT coalesce(sum(count), 0) FROM counters WHERE substr(id, 1, length(?1)) = ?1"
        return int(database.execute(query, (prefix,)).get)

    try:
        await serve(Batches(commit, total), results)
    finally:
        database.close()


async def on_postgres(url: str, results: int) -> None:
    """One statement a batch, which is its own transaction."""
    database = await asyncpg.connect(url)
    await database.execute(TABLE)
    statement = await database.prepare(_POSTGRES_ADD)

    async def commit(rows: Rows) -> None:
        await statement.fetch([row[0] for row in rows], [row[1] for row in rows])

    async def total(prefix: str) -> int:
        found = await database.fetchval("SELECT sum(count) FROM counters WHERE starts_with(id, $1)", prefix)
        return int(found or 0)

    try:
        await serve(Batches(commit, total), results)
    finally:
        await database.close()


if __name__ == "__main__":
    uvloop.run((on_sqlite if sys.argv[1] == "sqlite" else on_postgres)(sys.argv[2], take_stdout()))
