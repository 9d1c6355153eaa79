"""Time in a test: it stands still, and when it is moved it goes from one event to the next, waiting for nothing.

Before each step, and after the last one, everything is waited for that moves by itself: turns, loads, commits and
answers, by their own events. A turn that waits for something outside, such as a socket or an `asyncio.Event` of the
test, holds nothing up, so that its deadline can pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from durable_engine.testing_alarms import ShardDied
from durable_engine.testing_backend import ManualBackend
from durable_storage.store import DueAlarm

QUIET_TICKS: Final = 20
"""Turns of the event loop in a row that must bring nothing new before all is called quiet."""
PATIENCE_SECONDS: Final = 1.0
"""Real time that an alarm's method may wait for something outside before time goes on without it."""
FIRINGS_AT_ONCE_MAX: Final = 1_000
_NO_TIME: Final = timedelta(0)

_logger = logging.getLogger(__name__)


class EndlessAlarms(AssertionError):
    """Alarms that arm themselves again and again were fired as often as the test allows, and some are still armed."""

    def __init__(self, fired: Counter[str], following: DueAlarm) -> None:
        times = ", ".join(f"{name} ({count})" for name, count in fired.most_common(5))
        super().__init__(
            f"{fired.total()} alarms were fired and there is no end: {times}; next would be {_label(following)}. "
            "An alarm that always arms itself again is tested with `advance` and `fire`"
        )


class ManualTime:
    """Moves the clock of a `ManualBackend`."""

    def __init__(self, backend: ManualBackend) -> None:
        self._backend = backend
        self._clock = backend.clock
        self._firings: set[asyncio.Task[None]] = set()

    async def rest(self) -> None:
        """Wait until nothing moves by itself. Raises what keeps the engine from serving."""
        backend = self._backend
        quiet, seen = 0, None
        while quiet < QUIET_TICKS or not backend.is_calm():
            if 0 < quiet < QUIET_TICKS:
                await asyncio.sleep(0)
            else:  # a look at every object, and not at each tick
                await backend.movement()
            now = backend.progress()
            quiet = quiet + 1 if now == seen else 0
            seen = now

    async def go_on(self, target: datetime) -> None:
        """Let all happen that happens until then. Raises EndlessAlarms, DurableError."""
        while True:
            await self._look()
            step = self._next_step(target - self._clock.now())
            if step is None:
                break
            self._clock.advance(step)
            await self._strike()
        self._clock.advance(max(_NO_TIME, target - self._clock.now()))  # a test may have moved it meanwhile
        await self._strike()

    async def drain(self, firings_max: int) -> int:
        """Fire what is armed, whatever the time, until nothing is; how often. Raises EndlessAlarms, DurableError."""
        fired: Counter[str] = Counter()
        while (alarm := await self._soonest()) is not None:
            if fired.total() >= firings_max:
                raise EndlessAlarms(fired, alarm)
            fired[_label(alarm)] += 1
            await self._backend.fire(alarm)
        return fired.total()

    def _next_step(self, by: timedelta) -> timedelta | None:
        """The time until something happens, None when nothing does within `by`."""
        steps = []
        if (soonest := self._backend.scheduler.soonest()) is not None:
            steps.append(soonest[0] - self._clock.now())
        if (timeout := self._backend.next_timeout()) is not None:
            steps.append(timedelta(microseconds=ceil((timeout - self._clock.monotonic()) * 1e6)))
        step = max(_NO_TIME, min(steps, default=by + timedelta.resolution))
        return step if step <= by else None

    async def _strike(self) -> None:
        """Do what is due by now: idle objects first, then deadlines, then alarms, the soonest first."""
        backend = self._backend
        await backend.outside(backend.shard.idle.sweep)
        await backend.outside(backend.shard.turns.deadlines.run_due)
        await self.rest()
        backend.give_up_overdue()
        fired: Counter[str] = Counter()
        while True:
            await self._look()
            soonest = backend.scheduler.soonest()
            if soonest is None or soonest[0] > self._clock.now():
                return
            if fired.total() >= FIRINGS_AT_ONCE_MAX:
                raise EndlessAlarms(fired, soonest[1])
            fired[_label(soonest[1])] += 1
            await self._fire(soonest[1])

    async def _fire(self, alarm: DueAlarm) -> None:
        """Fire one and wait for its end, but not for ever: its deadline may be what comes next."""
        firing = asyncio.ensure_future(self._backend.scheduler.fire(alarm))
        self._firings.add(firing)
        firing.add_done_callback(self._fired)
        await asyncio.wait((firing,), timeout=PATIENCE_SECONDS)

    def _fired(self, firing: asyncio.Task[None]) -> None:
        self._firings.discard(firing)
        if not firing.cancelled() and (error := firing.exception()) is not None and not isinstance(error, ShardDied):
            _logger.error("an alarm could not be fired", exc_info=error)

    async def _soonest(self) -> DueAlarm | None:
        await self._look()
        soonest = self._backend.scheduler.soonest()
        return None if soonest is None else soonest[1]

    async def _look(self) -> None:
        """Wait until all is quiet and the armed alarms are known."""
        await self.rest()
        await self._backend.scheduler.look()


def _label(alarm: DueAlarm) -> str:
    return f"{alarm.address} {alarm.name!r}"
