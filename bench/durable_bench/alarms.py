"""How late alarms are while calls run, and how many fire in a second when all are due at once.

Each alarm is of an object of its own, which notes when it was to fire and when its method ran. The clock of the machine
is the same for both processes.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from durable_bench.measure import Latency, Repetition, drive
from durable_bench.objects import Counter, Reminder
from durable_bench.scenarios import SCENARIOS
from durable_engine import Engine

COUNT = 10_000
PER_SECOND = 1_000
"""Of `alarms`: how many are due in each second."""
CALLERS = 16
"""Of `alarms`: who call meanwhile, each waiting for its reply before it calls again."""
ARMING_PER_SECOND = 3_000
"""The first alarm is due when all are set at this pace."""
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.005

ALARMS = {
    "alarms": f"lateness of alarms, {PER_SECOND:,} due in each second while {CALLERS} callers call",
    "storm": "alarms that are all due at once",
}
FLOORS = {"storm": 5_000}
"""Alarms fired in a second that the project holds itself to on two cores."""
LATE_MS_MAX = {"alarms": 100.0}
"""The p99 of lateness in milliseconds, likewise."""


@dataclass(frozen=True, slots=True)
class Round:
    """All alarms of one repetition."""

    lateness: Latency
    """From the time an alarm was due until its method ran."""
    seconds: float
    """From the time the first was due until the last was fired, on disk."""
    calls: Repetition | None
    """What callers saw meanwhile."""


@dataclass(frozen=True, slots=True)
class Punctuality:
    """All repetitions of one scenario on one store."""

    name: str
    store: str
    alarms: int
    rounds: list[Round]

    def median(self, of: Callable[[Round], float]) -> float:
        """Median over the repetitions of any figure."""
        return statistics.median(map(of, self.rounds))

    @property
    def per_second(self) -> float:
        """Fired in a second, median."""
        return self.alarms / self.median(lambda each: each.seconds)

    def spread(self, of: Callable[[Round], float]) -> float:
        """(highest - lowest) / median."""
        values = [of(each) for each in self.rounds]
        return (max(values) - min(values)) / statistics.median(values)


class WrongAlarms(AssertionError):
    """Alarms were lost, fired twice, or early, so the figures mean nothing."""


async def punctuality(engine: Engine, name: str, store: str, *, alarms: int, repetitions: int) -> Punctuality:
    """Set alarms, wait for them, and ask each object how late its was. Raises WrongAlarms."""
    await _round(engine, name, 0, min(alarms, 1_000))  # a warm-up
    rounds = [await _round(engine, name, number, alarms) for number in range(1, repetitions + 1)]
    return Punctuality(name, store, alarms, rounds)


async def _round(engine: Engine, name: str, number: int, alarms: int) -> Round:
    reminders = [engine.at(Reminder, f"{name}-{number}-{index}") for index in range(alarms)]
    before = await _fired(engine)
    start = datetime.now(UTC) + timedelta(seconds=0.5 + alarms / ARMING_PER_SECOND)
    apart = timedelta(0) if name == "storm" else timedelta(seconds=1 / PER_SECOND)
    planned = [start + index * apart for index in range(alarms)]
    for first in range(0, alarms, 500):
        portion = slice(first, first + 500)
        await asyncio.gather(*(one.arm(at) for one, at in zip(reminders[portion], planned[portion], strict=True)))
    if datetime.now(UTC) > start:
        raise WrongAlarms(f"{alarms} alarms could not be set in time")
    calls = None
    if name != "storm":
        calls = await _call(engine, (planned[-1] - datetime.now(UTC)).total_seconds())
    await _until_fired(engine, before + alarms)
    seconds = (datetime.now(UTC) - start).total_seconds()
    return Round(Latency.of(await _late_seconds(reminders, planned)), seconds, calls)


async def _call(engine: Engine, seconds: float) -> Repetition:
    scenario = SCENARIOS["spread"]
    counters = [engine.at(Counter, f"beside-{object_id}") for object_id in scenario.ids()]
    shards = [shard.pid for shard in (await engine.statistics()).shards]
    return await drive(counters, scenario, CALLERS, seconds, shards)


async def _until_fired(engine: Engine, count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await _fired(engine) < count:  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(POLL_SECONDS)


async def _fired(engine: Engine) -> int:
    """Alarms that the server has fired so far; a shard that is too busy to say so is asked again."""
    while True:
        counts = [shard.statistics for shard in (await engine.statistics()).shards]
        if all(count is not None for count in counts):
            return sum(count.alarms.fired for count in counts if count is not None)


async def _late_seconds(reminders: list[Reminder], planned: list[datetime]) -> list[float]:
    late = []
    for reminder, at, told in zip(
        reminders, planned, await asyncio.gather(*(r.tell() for r in reminders)), strict=True
    ):
        if len(told) != 1 or told[0][0] != at.isoformat():
            raise WrongAlarms(f"{reminder!r} should have fired once, at {at}, and says {told}")
        late.append((datetime.fromisoformat(told[0][1]) - at).total_seconds())
    if min(late) < 0:
        raise WrongAlarms(f"an alarm was fired {-min(late) * 1e3:.1f} ms early")
    return late
