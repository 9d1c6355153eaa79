"""Many stored objects in little time: the engine's own store layer writes them, in the largest commits it takes."""

from __future__ import annotations

import os
from typing import Final

from durable_bench.objects import Counter
from durable_shards.spec import spec_of
from durable_storage.address import Address, partition_of, partitions_of_shard
from durable_storage.lease import Holder
from durable_storage.limits import BATCH_ROWS_MAX
from durable_storage.store import Change, Claim, Store
from durable_storage.urls import open_control, open_store

BEGINNING: Final = "stored"
_SPEC: Final = spec_of(Counter)


def stored_id(number: int) -> str:
    """Of one of the objects."""
    return f"{BEGINNING}-{number}"


def count_of(number: int) -> int:
    """What this object has counted."""
    return number % 1_000 + 1


async def fill(url: str, numbers: range, shards: int) -> None:
    """Store these objects as a server of so many shards would have. No server may run on the store.

    Raises what `Control.acquire` and `Store.open` raise.
    """
    control = open_control(url)
    await control.prepare(shards=shards, migrate=True)
    term = await control.acquire(Holder.of_this_process(), takeover=False)
    try:
        for shard in range(shards):
            store = open_store(url)
            await store.open(Claim(f"shard-{shard}", "bench", os.getpid(), "", shard, shards, term=term))
            try:
                await _fill_shard(store, numbers, partitions_of_shard(shard, shards))
            finally:
                await store.close()
    finally:
        await control.release(term)
        await control.close()


async def _fill_shard(store: Store, numbers: range, ours: range) -> None:
    changes: list[Change] = []
    for number in numbers:
        partition = partition_of("", _SPEC.name, stored_id(number))
        if partition in ours:
            state = _SPEC.codec.encode(Counter(count=count_of(number)))
            changes.append(Change(Address("", _SPEC.name, stored_id(number)), partition, state=state, version=1))
        if len(changes) == BATCH_ROWS_MAX:
            await _commit(store, changes)
            changes = []
    if changes:
        await _commit(store, changes)


async def _commit(store: Store, changes: list[Change]) -> None:
    refused = await store.commit(changes)
    if refused:
        raise next(iter(refused.values()))
