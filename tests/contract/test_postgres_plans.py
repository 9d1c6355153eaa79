"""How PostgreSQL finds rows: by key, also with a plan that was made while the tables were empty."""

from __future__ import annotations

import asyncpg
import pytest

from durable_storage.postgres_link import _SESSION
from durable_storage.queries import queries

PREPARED = {
    "load": ("text[], text[]", "'{a}', '{a}'", {"durable_objects_pkey": 2, "durable_alarms_pkey": 2}),
    "load_results": ("text[], text[], text[], timestamptz", "'{a}', '{a}', '{a}', now()", {"durable_results_pkey": 3}),
    "list_ids": ("text, text, int, int, int", "'a', '', 0, 1024, 10", {"durable_objects_pkey": 2}),
    "purge_results": ("timestamptz, int", "now(), 10", {"durable_results_expiry": 1}),
}


@pytest.mark.postgres
@pytest.mark.parametrize("name", PREPARED)
async def test_reading_uses_the_index_though_it_was_planned_for_empty_tables(postgres_dsn: str, name: str) -> None:
    """A plan lives as long as its connection, and a wrong one reads a whole table for each object."""
    types, arguments, indexes = PREPARED[name]
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute("VACUUM ANALYZE")
        for setting, value in _SESSION.items():
            if not setting.startswith(("tcp", "client")):
                await connection.execute(f"SET {setting} = '{value}'")
        await connection.execute(f"PREPARE it ({types}) AS " + queries("postgres")[name].format(schema="public"))
        lines = [row[0].strip() for row in await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE it ({arguments})")]
    finally:
        await connection.close()
    for index, columns in indexes.items():
        (place,) = [number for number, line in enumerate(lines) if f"using {index}" in line]
        condition = lines[place + 1]
        assert condition.startswith("Index Cond:")
        assert condition.count(" = ") + condition.count(" > ") + condition.count(" <= ") == columns
