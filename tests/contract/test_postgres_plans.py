"""How PostgreSQL finds rows: by key, also with a plan that was made while the tables were empty."""

from __future__ import annotations

import re

import asyncpg
import pytest

from durable_storage.postgres_link import _SESSION
from durable_storage.queries import queries

PREPARED = {
    "load": ("text[], text[]", "'{a}', '{a}'", {"durable_objects_pkey": 2, "durable_alarms_pkey": 2}),
    "load_results": ("text[], text[], text[], timestamptz", "'{a}', '{a}', '{a}', now()", {"durable_results_pkey": 3}),
    "list_ids": ("text, text, int, int, int", "'a', '', 0, 1024, 10", {"durable_objects_pkey": 2}),
    "due_alarms": (
        "timestamptz, int, int, text[], text[], text[], int",
        "now(), 0, 1024, '{a}', '{b}', '{x}', 10",
        {"durable_alarms_due": 3},
    ),
    "list_alarms": (
        "text, text, text, int, int, text[], text[], text[], int",
        "'', '', '', 0, 1024, '{}', '{}', '{}', 10",
        {"durable_alarms_pkey": 1},
    ),
    "next_class": ("text", "'a'", {"durable_objects_pkey": 1}),
    "count_class": ("text", "'a'", {"durable_objects_pkey": 1}),
    "scan_class": ("text, text, int, int", "'a', '', 10, 100", {"durable_objects_pkey": 2}),
    "purge_results": ("timestamptz, int", "now(), 10", {"durable_results_expiry": 1}),
}
ALARMS = """
INSERT INTO durable_alarms (object_type, object_id, alarm_name, partition, scheduled_at, parked)
SELECT 'a', number::text, 'x', number % 1024, now() + (number - 2.5) * interval '1 year', number % 2 = 1
FROM generate_series(0, 5000) AS number
"""
"""Two that are due, a parked one between them, and thousands that are due in the next millennia."""


async def plan(url: str, name: str, options: str, *before: str) -> list[str]:
    """The plan of a statement as the store would execute it, after other statements were executed."""
    types, arguments, _ = PREPARED[name]
    connection = await asyncpg.connect(url)
    try:
        for statement in before:
            await connection.execute(statement)
        for setting, value in _SESSION.items():
            if not setting.startswith(("tcp", "client")):
                await connection.execute(f"SET {setting} = '{value}'")
        await connection.execute(f"PREPARE it ({types}) AS " + queries("postgres")[name].format(schema="public"))
        return [row[0].strip() for row in await connection.fetch(f"EXPLAIN ({options}) EXECUTE it ({arguments})")]
    finally:
        await connection.close()


@pytest.mark.postgres
@pytest.mark.parametrize("name", PREPARED)
async def test_reading_uses_the_index_though_it_was_planned_for_empty_tables(postgres_dsn: str, name: str) -> None:
    """A plan lives as long as its connection, and a wrong one reads a whole table for each object."""
    lines = await plan(postgres_dsn, name, "COSTS OFF", "VACUUM ANALYZE")
    for index, comparisons in PREPARED[name][2].items():
        (place,) = [number for number, line in enumerate(lines) if f"using {index}" in line]
        condition = lines[place + 1]
        assert condition.startswith("Index Cond:")
        assert len(re.findall(r" (=|<|>|<=|>=) ", condition)) == comparisons


@pytest.mark.postgres
@pytest.mark.parametrize(("name", "index", "rows"), [("due_alarms", "due", 2), ("list_alarms", "pkey", 10)])
@pytest.mark.parametrize("statements", [[ALARMS], [ALARMS, "ANALYZE"]], ids=["statistics-of-nothing", "statistics"])
async def test_looking_for_alarms_reads_none_of_those_that_are_not_asked_for(
    postgres_dsn: str, name: str, index: str, rows: int, statements: list[str]
) -> None:
    """Neither parked ones nor those of the far future, nor what comes after a page."""
    lines = await plan(postgres_dsn, name, "ANALYZE, COSTS OFF, TIMING OFF", *statements)
    text = "\n".join(lines)
    assert re.search(rf"Index Scan using durable_alarms_{index} on durable_alarms \(actual rows={rows}(\.00)? ", text)
    assert "Rows Removed" not in text
    assert "Sort" not in text
