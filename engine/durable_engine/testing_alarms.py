"""The scheduler of a test: it knows every armed alarm and fires none before its clock is moved, or the test says so."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from durable_shards.clock import Clock
from durable_shards.firing import Firing
from durable_shards.flights import Key
from durable_shards.schedulers import UNNOTED_SECONDS, Failed, Fire, hold_seconds
from durable_shards.shard_events import problem_of
from durable_shards.statistics import SchedulerStatistics
from durable_shards.wire import Call
from durable_storage.address import Address
from durable_storage.errors import DurableError
from durable_storage.store import AlarmRow, DueAlarm, Served, Store

EVER: Final = datetime.max.replace(tzinfo=UTC)
ALARMS_MAX: Final = 1_000_000


class ShardDied(Exception):
    """The shard was made to crash while it fired an alarm."""


class _Outcome(Firing):
    """Waits for one firing, or for the note of its failure."""

    def __init__(self) -> None:
        self.fired = False
        self.error: DurableError | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return bool(result)

    def put(self, call: Call, encoded: Any) -> None:
        self.fired = encoded
        self._end()

    def fail(self, call: Call, error: DurableError) -> None:
        self.error = error
        self._end()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def die(self) -> None:
        """Nobody will ever hear of it."""
        if not self._over.done():
            self._over.set_exception(ShardDied())

    async def over(self) -> None:
        """Raises ShardDied."""
        await self._over


class ManualScheduler:
    """Implements `durable_shards.schedulers.Scheduler`. What it fires goes the way of every firing."""

    def __init__(self, store: Store, served: Callable[[], Served], clock: Clock) -> None:
        self._store = store
        self._served = served
        self._clock = clock
        self._context = contextvars.copy_context()  # of nobody's turn
        self._armed: dict[Key, datetime] = {}
        """What the rows say."""
        self._held: dict[Key, datetime] = {}
        """When those are offered again that could not be fired, or whose failure could not be noted."""
        self._flying: set[_Outcome] = set()
        self._fired = 0
        self.is_stale = True
        """The store may hold alarms that are not known here: nobody looked yet, or another class is served now."""

    async def start(self, fire: Fire, failed: Failed) -> None:
        """See `Scheduler`."""
        self._fire, self._failed = fire, failed

    def armed(self, address: Address, rows: Sequence[AlarmRow]) -> None:
        """See `Scheduler`."""
        for row in rows:
            self._armed[address, row.name] = row.at
            self._held.pop((address, row.name), None)

    def disarmed(self, address: Address, names: Sequence[str]) -> None:
        """See `Scheduler`."""
        for name in names:
            self._armed.pop((address, name), None)
            self._held.pop((address, name), None)

    async def look(self) -> None:
        """Read what the store holds, if that is not known."""
        while self.is_stale:
            self.is_stale = False
            for address, name, at in await self._store.due_alarms(self._served(), EVER, ALARMS_MAX):
                self._armed.setdefault((address, name), at)

    def soonest(self) -> tuple[datetime, DueAlarm] | None:
        """The alarm that is next, and when that is; None when none is armed."""
        when, key = min(((self._held.get(key, at), key) for key, at in self._armed.items()), default=(None, None))
        if when is None or key is None:
            return None
        return when, DueAlarm(*key, self._armed[key])

    async def fire(self, alarm: DueAlarm) -> None:
        """Fire an alarm as the engine does: a failure is noted in its row, and it is tried again later or parked.

        Raises ShardDied.
        """
        key = (alarm.address, alarm.name)
        self._armed.pop(key, None)
        firing = await self._call(self._fire, alarm)
        self._fired += firing.fired
        if firing.error is None:
            return
        hold = hold_seconds(firing.error, firing.began)
        if hold is None:
            problem = problem_of(firing.error)
            noting = await self._call(lambda alarm, peer: self._failed(alarm, problem, peer), alarm)
            hold = None if noting.error is None else UNNOTED_SECONDS
        if hold is not None and key not in self._armed:
            self._armed[key] = alarm.at
            self._held[key] = self._clock.now() + timedelta(seconds=hold)

    async def _call(self, begin: Fire, alarm: DueAlarm) -> _Outcome:
        """A call of the shard's own, when it is over."""
        outcome = _Outcome()
        self._flying.add(outcome)
        # From the loop, as a timer would: turns may begin at once, and must not find themselves in a task.
        asyncio.get_running_loop().call_soon(begin, alarm, outcome, context=self._context)
        try:
            await outcome.over()
        finally:
            self._flying.discard(outcome)
        return outcome

    def statistics(self) -> SchedulerStatistics:
        """See `Scheduler`."""
        return SchedulerStatistics(len(self._armed), len(self._flying), self._fired, 0.0)

    def pause(self) -> None:
        """See `Scheduler`: nothing begins by itself."""

    def die(self) -> None:
        """Nobody will hear of what is in flight."""
        for outcome in self._flying:
            outcome.die()

    async def close(self) -> None:
        """See `Scheduler`."""
        self.die()
