"""How SQLite finds alarms: in an index that holds no others, or in the order of their key."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import apsw
import pytest

from durable_storage import sqlite_schema
from durable_storage.queries import queries


@pytest.mark.parametrize(
    ("name", "arguments", "search"),
    [
        ("due_alarms", (0, "[]", "[]", 10), "USING INDEX durable_alarms_due (scheduled_at<?)"),
        (
            "list_alarms",
            ("", "", "", "[]", "[]", 10),
            "USING PRIMARY KEY ((object_type,object_id,alarm_name)>(?,?,?))",
        ),
    ],
)
def test_alarms_are_read_in_order_and_only_those_that_are_asked_for(
    name: str, arguments: tuple[Any, ...], search: str
) -> None:
    """Neither parked ones nor those of the far future, nor all of them to sort them."""
    with closing(apsw.Connection(":memory:")) as connection:
        sqlite_schema.migrate(connection)
        rows: Any = connection.execute(f"EXPLAIN QUERY PLAN {queries('sqlite')[name]}", arguments)
        steps = [row[3] for row in rows]
    assert f"SEARCH durable_alarms {search}" in steps
    assert not any("ORDER BY" in step for step in steps)
