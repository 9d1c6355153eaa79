"""Loads of many objects at once: what comes back is what was stored, whatever else is in the batch."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from durable_storage import sqlite_load, sqlite_schema
from durable_storage.queries import queries
from durable_storage.sqlite_file import SQL, ShardFile
from durable_storage.store import Stored
from tests.contract.rigs import Rig, address, alarm, change

TEXTS = ['{"text":"\\u0000 \\" ü 😀"}', '{"a":1}', "{}", '{"deep":[[],[{}]]}']


async def test_objects_of_many_sizes_and_classes_come_back_as_they_were_stored(rig: Rig) -> None:
    """Small and large ones, with and without alarms, with alarms only, and such as are not there."""
    store = await rig.open()
    texts = [*TEXTS, '"' + "ü" * 20_000 + '"', '"' + "x" * (sqlite_load.TOGETHER_BYTES_MAX - 2) + '"']
    stored = {}
    for number, text in enumerate(texts):
        for alarms in ([], [alarm("a"), alarm("b")]):
            where = address(f"id-{number}-'\"é{len(alarms)}")
            stored[where] = Stored(text.encode(), number + 1, tuple(alarms))
    stored[address("alarms only")] = Stored(None, 0, (alarm("a"),))
    payload = b'"' + b"x" * sqlite_load.TOGETHER_BYTES_MAX + b'"'
    stored[address("a large payload")] = Stored(b"{}", 1, (alarm("a"), alarm("b", payload=payload)))
    stored[address("a large payload only")] = Stored(None, 0, (alarm("a", payload=payload),))
    batch = [change(where, each.state, version=each.version, alarms_set=each.alarms) for where, each in stored.items()]
    assert await store.commit(batch) == {}
    asked = [address("nothing"), *stored, address("nothing either"), *reversed(stored)]
    assert await store.load(asked) == [stored.get(where) for where in asked]


async def test_loads_and_commits_at_once_see_whole_objects(rig: Rig) -> None:
    """A state and its alarms are of one commit, whenever the load comes."""
    store = await rig.open()
    ids = [address(f"id-{number}") for number in range(50)]

    async def write() -> None:
        for version in range(1, 30):
            armed = [alarm(str(version))]
            gone = [str(version - 1)]
            state = str(version).encode()
            await store.commit([change(each, state, version, alarms_set=armed, alarms_cleared=gone) for each in ids])

    async def read() -> None:
        while not writing.done():
            for found in await store.load(ids):
                assert found is None or [row.name for row in found.alarms] == [str(found.version)]

    writing = asyncio.create_task(write())
    await asyncio.gather(writing, read())


def _file(tmp_path: Path) -> ShardFile:
    path = tmp_path / "shard.sqlite3"
    with closing(apsw.Connection(str(path))) as connection:
        sqlite_schema.migrate(connection)
        connection.executemany(SQL["store_object"], [("Cart", f"id-{number}", 0, 1, "{}", 0) for number in range(3)])
    return ShardFile(path, readonly=True)


def test_text_of_nobody_does_not_keep_its_neighbours_from_being_loaded(tmp_path: Path) -> None:
    """A payload that is no UTF-8 can only have been written by another program."""
    with closing(_file(tmp_path)) as file:
        with closing(apsw.Connection(str(file.path))) as other:
            columns = "(object_type, object_id, alarm_name, partition, scheduled_at, payload)"
            other.execute(
                f"INSERT INTO durable_alarms {columns} VALUES ('Cart', 'id-1', 'a', 0, 0, CAST(x'ff' AS TEXT))"
            )
        found = file.load([("Cart", f"id-{number}") for number in range(3)])
    assert [each and each.state for each in found] == [b"{}"] * 3
    assert found[1] is not None
    assert found[1].alarms[0].payload == b"\xff"


def test_more_alarms_than_fit_into_one_text_are_loaded_object_by_object(tmp_path: Path) -> None:
    """What SQLite refuses to put together is no reason to ask for it again and again."""
    with closing(_file(tmp_path)) as file:
        with closing(apsw.Connection(str(file.path))) as other:
            columns = "(object_type, object_id, alarm_name, partition, scheduled_at, payload)"
            rows = [(f"a{number}", '"' + "x" * 10_000 + '"') for number in range(30)]
            other.executemany(f"INSERT INTO durable_alarms {columns} VALUES ('Cart', 'id-1', ?, 0, 0, ?)", rows)
        file._connection.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)
        found = file.load([("Cart", f"id-{number}") for number in range(3)])
    assert [each and (each.state, len(each.alarms)) for each in found] == [(b"{}", 0), (b"{}", 30), (b"{}", 0)]


def test_a_state_of_nobody_is_handed_on_byte_by_byte(tmp_path: Path) -> None:
    """Whether it can be read is for its object to find out; its neighbours' states are not shifted by it."""
    with closing(_file(tmp_path)) as file:
        with closing(apsw.Connection(str(file.path))) as other:
            other.execute("UPDATE durable_objects SET state = CAST(x'ff00fe' AS TEXT) WHERE object_id = 'id-1'")
        found = file.load([("Cart", f"id-{number}") for number in range(3)])
    assert [each and each.state for each in found] == [b"{}", b"\xff\0\xfe", b"{}"]


@pytest.mark.parametrize("table", ["durable_objects", "durable_alarms"])
def test_loads_look_each_id_up_by_key(tmp_path: Path, table: str) -> None:
    """However large the table, and whatever SQLite believes of it."""
    with closing(apsw.Connection(":memory:")) as connection:
        sqlite_schema.migrate(connection)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {queries('sqlite')['load_objects']}", ("Cart", '["1"]', 9))
        steps = [str(row[3]) for row in plan]
    assert any("SEARCH stored" in step and "(object_type=? AND object_id=?)" in step for step in steps)
    assert not any(step.startswith("SCAN") and table in step for step in steps)
