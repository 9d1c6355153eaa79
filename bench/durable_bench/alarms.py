"""How late alarms are while calls run, and how many fire in a second when all are due at once.

Each alarm is of an object of its own, which notes when it was to fire and when its method ran. The clock of the machine
is the same for both processes.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from durable_bench.clients import Load
from durable_bench.errors import WrongAlarms
from durable_bench.histogram import Histogram
from durable_bench.measure import Place
from durable_bench.objects import Reminder
from durable_bench.results import Punctuality, Repetition, Round
from durable_bench.workloads.base import Share, in_portions
from durable_bench.workloads.counters import Spread
from durable_engine import Engine

COUNT: Final = 10_000
PER_SECOND: Final = 1_000
"""Of `alarms`: how many are due in each second."""
CALLERS: Final = 16
"""Of `alarms`: who call meanwhile, each waiting for its reply before it calls again."""
ARMING_PER_SECOND: Final = 3_000
"""The first alarm is due when all are set at this pace."""
PATIENCE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.005

ALARMS: Final = {
    "alarms": f"lateness of alarms, {PER_SECOND:,} due in each second while {CALLERS} callers call",
    "alarm-storm": "alarms that are all due at once",
}
FLOORS: Final = {"alarm-storm": 5_000}
LATE_MS_MAX: Final = {"alarms": 100.0}


async def punctuality(
    engine: Engine, name: str, place: Place, share: Share, *, alarms: int, repetitions: int
) -> Punctuality:
    """Set alarms, wait for them, and ask each object how late its was. Raises WrongAlarms."""
    await _round(engine, name, f"{share.run}-0", min(alarms, 1_000))  # a warm-up
    rounds = [await _round(engine, name, f"{share.run}-{number}", alarms) for number in range(1, repetitions + 1)]
    return Punctuality(
        name, place.store, place.shards, alarms, rounds, floor=FLOORS.get(name), late_p99_ms_max=LATE_MS_MAX.get(name)
    )


async def _round(engine: Engine, name: str, run: str, alarms: int) -> Round:
    reminders = [engine.at(Reminder, f"{name}-{run}-{index}") for index in range(alarms)]
    before = await _fired(engine)
    start = datetime.now(UTC) + timedelta(seconds=0.5 + alarms / ARMING_PER_SECOND)
    apart = timedelta(0) if name == "alarm-storm" else timedelta(seconds=1 / PER_SECOND)
    planned = [start + index * apart for index in range(alarms)]
    await in_portions(reminder.arm(at) for reminder, at in zip(reminders, planned, strict=True))
    if datetime.now(UTC) > start:
        raise WrongAlarms(f"{alarms} alarms could not be set in time")
    calls = None
    if name != "alarm-storm":
        calls = await _call(engine, run, (planned[-1] - datetime.now(UTC)).total_seconds())
    await _until_fired(engine, before + alarms)
    seconds = (datetime.now(UTC) - start).total_seconds()
    late = Histogram.of(await _late_seconds(reminders, planned))
    return Round(late.percentiles(), seconds, late.encode(), calls)


async def _call(engine: Engine, run: str, seconds: float) -> Repetition:
    beside = Spread(Share(run=f"beside-{run}"))
    await beside.prepare(engine)
    shards = [shard.pid for shard in (await engine.statistics()).shards]
    sample = await Load(in_flight=CALLERS, rate=None, seconds=seconds).run(beside, shards)
    await beside.verify()
    return Repetition.of(sample)


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
    all_told = await in_portions(reminder.tell() for reminder in reminders)
    for reminder, at, told in zip(reminders, planned, all_told, strict=True):
        if len(told) != 1 or told[0][0] != at.isoformat():
            raise WrongAlarms(f"{reminder!r} should have fired once, at {at}, and says {told}")
        late.append((datetime.fromisoformat(told[0][1]) - at).total_seconds())
    if min(late) < 0:
        raise WrongAlarms(f"an alarm was fired {-min(late) * 1e3:.1f} ms early")
    return late
