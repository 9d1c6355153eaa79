"""What the tables of SQLite and PostgreSQL hold beside the state, read with nothing but SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from durable_storage.sqlite_layout import Layout
from tests.contract.rigs import PostgresRig, Rig, SqliteRig, change

INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'durable_alarms'",
    "postgres": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'durable_alarms'",
}
TWICE = """
INSERT INTO durable_objects (object_type, object_id, partition, version, state, inserted_at, updated_at)
SELECT object_type, object_id, partition, version, state, inserted_at, updated_at FROM durable_objects
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def bare_database(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """A store that others can look into."""
    if request.param == "sqlite":
        return SqliteRig(tmp_path / "store")
    return PostgresRig(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def database(bare_database: Rig) -> AsyncIterator[Rig]:
    """The same, prepared for one shard."""
    await bare_database.control()
    yield bare_database
    await bare_database.close()


async def run(rig: Rig, statement: str) -> list[tuple[Any, ...]]:
    """One statement of somebody who knows only the database."""
    if isinstance(rig, SqliteRig):
        layout = Layout(rig.directory)
        generation = layout.current()
        assert generation is not None
        with closing(apsw.Connection(str(layout.file(generation, "", 0)))) as connection:
            return list(connection.execute(statement))
    assert isinstance(rig, PostgresRig)
    connection = await asyncpg.connect(rig.url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_a_row_says_when_it_was_made_and_last_changed(database: Rig) -> None:
    """parity 60: `inserted_at` stays, `updated_at` goes with each commit."""
    store = await database.open()
    times = []
    for version in (1, 2, 3):
        await store.commit([change("a", b'{"v":%d}' % version, version)])
        times += await run(database, "SELECT inserted_at, updated_at FROM durable_objects")
        database.time += timedelta(seconds=1)
    made, changed = zip(*times, strict=True)

    assert set(made) == {changed[0]}
    assert changed[0] < changed[1] < changed[2]


async def test_the_database_itself_refuses_a_second_row_of_an_object(database: Rig) -> None:
    """parity 65: class and id are unique there, whoever writes."""
    store = await database.open()
    await store.commit([change("a", b"{}")])

    with pytest.raises((apsw.ConstraintError, asyncpg.UniqueViolationError)):
        await run(database, TWICE)


async def test_due_alarms_are_found_by_an_index(database: Rig) -> None:
    """parity 65: on the time for which they are scheduled."""
    found = await run(database, INDEXES["sqlite" if isinstance(database, SqliteRig) else "postgres"])

    assert [name for name, text in found if text and "scheduled_at" in text] != []
