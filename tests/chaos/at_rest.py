"""What rests in a store that nobody owns, read as its shards would."""

from __future__ import annotations

import json

from durable_storage.address import Address
from durable_storage.store import AlarmRow, Claim, Store, Stored
from durable_storage.urls import open_store
from tests.chaos.final import AtRest, Row
from tests.chaos.load import CLASSES

PAGE = 500


async def read_at_rest(url: str, shards: int) -> dict[str, AtRest]:
    """Every object of the classes of `objects.py`, by the text of its address; in pages."""
    found: dict[str, AtRest] = {}
    for shard in range(shards):
        store = open_store(url)
        await store.open(Claim(f"shard-{shard}", "test", 1, "", shard, shards))
        try:
            for cls in CLASSES:
                found |= await _read_class(store, cls)
        finally:
            await store.close()
    return found


async def _read_class(store: Store, cls: str) -> dict[str, AtRest]:
    found: dict[str, AtRest] = {}
    after: str | None = None
    while ids := await store.list_ids("", cls, after, PAGE):
        after = ids[-1]
        loaded = await store.load([Address("", cls, object_id) for object_id in ids])
        for object_id, stored in zip(ids, loaded, strict=True):
            assert stored is not None
            found[f"{cls}/{object_id}"] = _at_rest(stored)
    return found


def _at_rest(stored: Stored) -> AtRest:
    assert stored.state is not None
    return AtRest(bytes(stored.state), stored.version, {row.name: _row(row) for row in stored.alarms})


def _row(row: AlarmRow) -> Row:
    return Row(row.tick or row.at, json.loads(row.payload or b"{}").get("token", 0), row.attempts, row.is_parked)


def disagreements(store: dict[str, AtRest]) -> list[str]:
    """I7 by itself, for looks into the store in the middle of a run: state and rows of alarms name the same."""
    found = []
    for name, rest in store.items():
        armed = json.loads(rest.state).get("armed", {})
        rows = {alarm: row.token for alarm, row in rest.alarms.items()}
        if rows != armed:
            found.append(f"{name}: the state says {armed}, the rows {rows}")
    return found
