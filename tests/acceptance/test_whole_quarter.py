"""A quarter of real flights through shards that are killed at random: none is lost, none counts twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import deque
from pathlib import Path

import pytest

from durable_engine import Engine
from examples.flights.feed import feed, read_totals
from examples.flights.objects import Aircraft
from examples.flights.source import DAY, Flight, Row, count, read_rows

ROOT = Path(__file__).parents[2]
OBJECTS = ROOT / "examples" / "flights" / "objects.py"
QUARTER = ROOT.parent / "shared" / "data" / "flights-2013-q1.csv.gz"
KILLS = 8
SHARDS = 2


class Nemesis:
    """Kills -9 a random shard each time a random number of flights is done.

    Seeded, and tied to the progress of the work rather than to the clock: the same seed strikes at the same
    flights, however fast the machine is.
    """

    def __init__(self, engine: Engine, flights: int, seed: int) -> None:
        self.kills = 0
        self._engine = engine
        self._random = random.Random(seed)
        self._moments = deque(sorted(self._random.sample(range(flights), KILLS)))
        self._done = 0
        self._due = asyncio.Semaphore(0)

    def flight_done(self) -> None:
        """To be called after each flight."""
        self._done += 1
        while self._moments and self._moments[0] < self._done:
            self._moments.popleft()
            self._due.release()

    async def rage(self) -> None:
        """Strike whenever it is due, until all strikes are done."""
        for _ in range(KILLS):
            await self._due.acquire()
            os.kill(await self._victim(), signal.SIGKILL)
            self.kills += 1

    async def _victim(self) -> int:
        """The process of a shard that serves, waiting for one if they are all being restarted."""
        while True:
            shards = (await self._engine.statistics()).shards
            serving = [shard.pid for shard in shards if shard.state == "up" and shard.pid]
            if serving:
                return self._random.choice(serving)
            await asyncio.sleep(0.01)


def flights() -> list[Row]:
    """The quarter when it is there, else the day that is shipped."""
    return read_rows(QUARTER if QUARTER.exists() else DAY)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty store."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_empty_dsn"))
    return f"sqlite:///{tmp_path}/data"


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(300)
async def test_every_flight_of_the_quarter_counts_exactly_once(store: str) -> None:
    """With exactly_once=True the totals of all objects are those of an independent count."""
    rows = flights()
    expected = count(rows)
    latest = max((row for row in rows if row["dep_time"] and row["tailnum"]), key=lambda row: row["time_hour"])
    seed = int(os.environ.get("DURABLE_TEST_SEED", random.randrange(2**32)))
    print(f"repeat with DURABLE_TEST_SEED={seed}")

    async with Engine(store, objects=[str(OBJECTS)], shards=SHARDS, exactly_once=True, migrate=True) as engine:
        nemesis = Nemesis(engine, len(rows), seed)
        async with asyncio.TaskGroup() as group:
            group.create_task(nemesis.rage())
            await feed(engine, map(Flight.from_row, rows), done=nemesis.flight_done)
        counted = await read_totals(engine, expected)
        restarts = sum(shard.restarts for shard in (await engine.statistics()).shards)
        sighting = await engine.at(Aircraft, latest["tailnum"]).whereabouts()

    assert {address: counted[address] for address in expected if counted[address] != expected[address]} == {}
    assert nemesis.kills == KILLS
    assert restarts >= KILLS
    assert sighting is not None
    assert sighting.at == Flight.from_row(latest).scheduled
