"""Stores filled with states as text, and read back, for commands that work on them without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from durable_storage.address import Address, partition_of, partitions_of_shard
from durable_storage.migrate import up
from durable_storage.scan import open_scan, pages
from durable_storage.store import Change, Claim
from durable_storage.urls import open_control, open_store

SHARDS = 3

Rows = dict[str, tuple[bytes, int]]
"""{"Class/id": (state, version)}"""


def fill(url: str, states: Mapping[str, bytes], prefix: str = "") -> None:
    """Store states under "Class/id", in a store of three shards that nobody owns afterwards."""
    asyncio.run(_fill(url, states, prefix))


async def _fill(url: str, states: Mapping[str, bytes], prefix: str) -> None:
    control = open_control(url)
    await control.prepare(shards=SHARDS, migrate=True)
    await control.close()
    if prefix:
        await up(url, prefix=prefix)
    changes = []
    for name, state in states.items():
        address = Address(prefix, *name.split("/", 1))
        changes.append(Change(address, partition_of(*address), state=state, version=1))
    for shard in range(SHARDS):
        store = open_store(url)
        await store.open(Claim(f"shard-{shard}", "test", 1, "", shard, SHARDS))
        ours = partitions_of_shard(shard, SHARDS)
        assert await store.commit([each for each in changes if each.partition in ours]) == {}
        await store.close()


def rows(url: str, prefix: str = "") -> Rows:
    """Everything that is stored of a tenant."""
    return asyncio.run(_rows(url, prefix))


async def _rows(url: str, prefix: str) -> Rows:
    scan = await open_scan(url, prefix)
    try:
        return {
            f"{name}/{row.object_id}": (row.state, row.version)
            for name in await scan.classes()
            for shard in range(scan.shards)
            async for page in pages(scan, name, shard=shard, rows_max=100)
            for row in page
        }
    finally:
        await scan.close()
