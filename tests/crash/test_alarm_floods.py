"""A million alarms that became due while nothing ran."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from durable_shards.deadline_scheduler import IN_FLIGHT_MAX, WINDOW_MAX
from durable_storage.sqlite_control import SqliteControl
from tests.crash import flood_objects
from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually

pytestmark = pytest.mark.processes

COUNT = 1_000_000
FLOOD = """
INSERT INTO durable_alarms (object_type, object_id, alarm_name, partition, scheduled_at)
WITH RECURSIVE drops (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM drops WHERE number < ?)
SELECT 'Drop', 'drop-' || number, 'fall', 0, 1700000000000000 + number FROM drops
"""


def test_a_million_overdue_alarms_are_worked_off_in_measure(make_server: MakeServer, tmp_path: Path) -> None:
    """fault C3: a window of them is in memory, calls are answered meanwhile, and each has fired once or waits."""
    asyncio.run(SqliteControl(tmp_path / "store").prepare(shards=1, migrate=None))
    [path] = tmp_path.glob("store/g*/shard-000.sqlite3")
    with closing(apsw.Connection(str(path))) as file:
        file.execute(FLOOD, (COUNT,))
    server = make_server(objects=(flood_objects.__file__,), shards=1).start()
    with server.client() as client:
        counted = [client.call_by_name("Drop", "caller", "add", [1], {}, timeout=30) for _ in range(20)]

        def has_gone_on() -> bool:
            (shard,) = client.statistics().shards
            alarms = shard.statistics.alarms
            assert alarms.armed <= 2 * WINDOW_MAX
            assert alarms.in_flight <= IN_FLIGHT_MAX
            return bool(alarms.fired > 1.5 * WINDOW_MAX and alarms.late_seconds_max > 3600)

        eventually(has_gone_on, timeout=60, state=lambda: f"{client.statistics()}\n{server.log[-2000:]}")
    assert counted == list(range(1, 21))
    assert server.stop() == 0
    with closing(apsw.Connection(str(path))) as file:
        (waiting,) = file.execute("SELECT count(*) FROM durable_alarms").fetchall()
        fired = file.execute("SELECT count(*), count(DISTINCT state) FROM durable_objects WHERE object_id != 'caller'")
        [(effects, states)] = fired.fetchall()
    assert waiting[0] + effects == COUNT
    assert (effects > 1.5 * WINDOW_MAX, states) == (True, 1), "all have fired once"
