"""The store's part of a call: the commit of a batch of real changes, fsync and all, by the engine's own store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import process_time_ns

from durable_bench.experiments.processor import Cpu
from durable_storage.store import Change, Claim
from durable_storage.urls import open_control, open_store


async def store_ns(url: str, changes: Sequence[Change], rows: int, commits: int, database: Cpu) -> tuple[float, float]:
    """Processor time for each row, in nanoseconds, over so many commits: of this process, and of the database's own.

    `rows` of `changes` are one commit; the states are written with one version after the other.
    """
    control, store = open_control(url), open_store(url)
    await control.prepare(shards=1, migrate=True)
    await store.open(Claim("shard-0", "bench", os.getpid(), "", 0, 1))
    try:
        batch = [changes[number % len(changes)] for number in range(min(rows, len(changes)))]
        await store.commit(batch)  # rows that are there are written over, as they are in a server that runs
        ours, theirs = process_time_ns(), database.seconds()
        for _ in range(commits):
            for change in batch:
                change.version += 1
            await store.commit(batch)
        ours, theirs = process_time_ns() - ours, database.seconds() - theirs
    finally:
        await store.close()
        await control.close()
    written = commits * len(batch)
    return ours / written, theirs * 1e9 / written
