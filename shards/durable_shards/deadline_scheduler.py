"""The default scheduler of alarms: a heap of deadlines in the memory of their owner.

It knows the alarms of the next minute or two, at most `WINDOW_MAX` of them: commits tell it at once of what they arm,
and a sweep through the store, on start and every `alarm_poll`, brings what has come near (and is the safety net). A
stale entry costs a look: whether an alarm fires is decided in its object's turn.

Firings in flight are bounded, all together and for each object (`durable_shards.flights`), and started in portions
between which calls are served, so that a storm of due alarms takes its share and no more. An alarm whose firing arms it
again at once, or another of its object that does the same, over and over, is slowed down to ten times a second. Ticks
of a rule are not counted: those that were missed are fired one after the other.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from durable_shards.clock import Clock
from durable_shards.firing import Firing
from durable_shards.flights import Flights, Key
from durable_shards.registry import Registry
from durable_shards.schedulers import UNNOTED_SECONDS, Failed, Fire, hold_seconds
from durable_shards.shard_events import problem_of
from durable_shards.shard_settings import ShardSettings
from durable_shards.statistics import SchedulerStatistics
from durable_shards.wire import Call
from durable_storage.address import Address
from durable_storage.errors import DurableError
from durable_storage.store import AlarmRow, DueAlarm, Served, Store

WINDOW_MAX: Final = 20_000
"""Alarms in memory after a sweep; commits may add as many again."""
IN_FLIGHT_MAX: Final = 512
PER_OBJECT_MAX: Final = 32
"""The same of one object: turns that do not wait share a commit, so that one at a time would be slow."""
PER_TICK: Final = 64
"""Firings begun in one go; then it is the calls' turn."""
KEPT_BACK_PER_TICK: Final = 512
"""The same for alarms that are due and have to wait, which costs less."""
LOOK_SECONDS_MAX: Final = 0.5
"""The longest sleep before the clock is read again: it may be set."""
RETRY_SECONDS: Final = 1.0
"""Before the store is asked again that did not answer."""
STREAK_FREE: Final = 16
"""Firings in a row that may arm themselves again at once."""
STREAK_SECONDS_MAX: Final = 0.1
STREAK_ENDS_SECONDS: Final = 0.05
"""An alarm armed this far ahead is in no hurry."""

log = logging.getLogger("durable_engine.shard")


class _Armed(NamedTuple):
    at: datetime
    """What the row says."""
    when: datetime
    """When to fire it: later than `at` for one that was held back."""


class _DeadlineFiring(Firing):
    """One firing in flight."""

    __slots__ = ("_ended", "_rounds", "alarm", "round")

    def __init__(
        self,
        alarm: DueAlarm,
        ended: Callable[[DueAlarm, DurableError | None, bool], None],
        rounds: dict[Key, int],
        number: int = 0,
    ) -> None:
        self.alarm = alarm
        self.round = number
        """How many firings led to this one, each of which armed the next one at once."""
        self._ended = ended
        self._rounds = rounds

    def encode(self, call: Call, version: int, result: Any) -> Any:
        if self.book is not None:  # the turn has ended well; the scheduler hears of the armings when they are durable
            for name in self.book.armed_by_firing():
                self._rounds[self.alarm.address, name] = self.round + 1
        return bool(result)

    def put(self, call: Call, encoded: Any) -> None:
        self._forget()
        self._ended(self.alarm, None, encoded)

    def fail(self, call: Call, error: DurableError) -> None:
        self._forget()
        self._ended(self.alarm, error, self.began)

    def _forget(self) -> None:
        if self.book is not None:
            for name in self.book.armed_by_firing():
                self._rounds.pop((self.alarm.address, name), None)


class DeadlineScheduler:
    """The default. Implements `Scheduler`."""

    def __init__(self, store: Store, served: Callable[[], Served], clock: Clock, *, poll_seconds: float) -> None:
        self._store = store
        self._served = served
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()  # of nobody's turn
        self._poll = timedelta(seconds=poll_seconds)
        self._heap: list[tuple[datetime, int, Key]] = []
        self._order = count()
        self._armed: dict[Key, _Armed] = {}
        self._flights = Flights(PER_OBJECT_MAX)
        self._rounds: dict[Key, int] = {}
        """Armings by firings whose commit is under way: how many firings led to each."""
        self._streaks: dict[Key, int] = {}
        """The same of alarms that are armed or in flight; those alone that were armed at once."""
        self._horizon = clock.now()
        """Every alarm of ours that is armed for before this is in memory."""
        self._sweep_at = 0.0
        """Monotonic, so that a clock that is set back puts off no sweep."""
        self._sweeping: asyncio.Future[list[DueAlarm]] | None = None
        self._is_partial = False
        """There is more before the end of the window than fits into memory."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._paused = False
        self._fired = 0
        self._late_seconds_max = 0.0

    async def start(self, fire: Fire, failed: Failed) -> None:
        """See `Scheduler`."""
        self._fire, self._failed = fire, failed
        self._sweep()

    # What commits tell.

    def armed(self, address: Address, rows: Sequence[AlarmRow]) -> None:
        """See `Scheduler`."""
        for row in rows:
            key = (address, row.name)
            when = self._earliest(key, row)
            if row.at < self._horizon:
                self._put(key, row.at, when)
            else:
                self._armed.pop(key, None)
        if len(self._armed) > 2 * WINDOW_MAX:
            self._shrink()
        self._wake()

    def disarmed(self, address: Address, names: Sequence[str]) -> None:
        """See `Scheduler`."""
        for name in names:
            self._armed.pop((address, name), None)
            self._streaks.pop((address, name), None)

    def _put(self, key: Key, at: datetime, when: datetime) -> None:
        self._armed[key] = _Armed(at, when)
        heapq.heappush(self._heap, (when, next(self._order), key))

    def _earliest(self, key: Key, row: AlarmRow) -> datetime:
        """When an alarm may fire that was armed by a firing: at once for a while, then ever later."""
        streak, now = self._rounds.pop(key, 0), self._clock.now()
        if not streak or (row.at - now).total_seconds() > STREAK_ENDS_SECONDS:
            self._streaks.pop(key, None)
            return row.at
        self._streaks[key] = streak
        over = streak - STREAK_FREE
        if over <= 0:
            return row.at
        return max(row.at, now + timedelta(seconds=min(STREAK_SECONDS_MAX, 0.001 * 2.0 ** min(over, 10))))

    # Firing.

    def next_due(self) -> datetime | None:
        """When the next alarm known here fires; None when none is."""
        self._prune()
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Begin what is due, as far as bounds allow. Called by the timer, or by a test's clock; never inside a task."""
        self._stop_timer()
        now = self._clock.now()
        begun = 0
        while not self._paused and begun < PER_TICK and len(self._flights) < IN_FLIGHT_MAX:
            # In turn with the soonest, so that neither keeps the other waiting.
            key = self._take_kept_back(now) if begun % 2 else None
            key = key or self._take_soonest(now) or self._take_kept_back(now)
            if key is None:
                break
            begun += 1
            self._begin(key, self._armed.pop(key).at, now)
        if self._must_sweep(now):
            self._sweep()
        self._wake()

    def _take_soonest(self, now: datetime) -> Key | None:
        for _ in range(KEPT_BACK_PER_TICK):
            self._prune()
            if not self._heap or self._heap[0][0] > now:
                break
            key = heapq.heappop(self._heap)[2]
            if not self._flights.keep_back(key):
                return key
        return None

    def _take_kept_back(self, now: datetime) -> Key | None:
        while self._flights.ready and (key := self._flights.next_ready()) is not None:
            armed = self._armed.get(key)
            if armed is not None and armed.when <= now:
                return key
        return None

    def _must_sweep(self, now: datetime) -> bool:
        """Whether it is time, or the clock has come too near to what is not in memory: it may have been set."""
        if self._may_sweep() and self._clock.monotonic() >= self._sweep_at:
            return True
        if not self._is_partial:
            return now + self._poll >= self._horizon
        # All that there is room for may be held back, while what is beyond the horizon is due.
        return now >= self._horizon and (not self._heap or self._heap[0][0] > now)

    def _may_sweep(self) -> bool:
        """Whether a sweep is of use just for its time: one is not under way, and there is room for what it brings."""
        return self._sweeping is None and not (self._is_partial and len(self._armed) >= WINDOW_MAX)

    def _begin(self, key: Key, at: datetime, now: datetime) -> None:
        self._flights.begin(key)
        self._late_seconds_max = max(self._late_seconds_max, (now - at).total_seconds())
        alarm = DueAlarm(key[0], key[1], at)
        self._fire(alarm, _DeadlineFiring(alarm, self._ended, self._rounds, self._streaks.get(key, 0)))

    def _ended(self, alarm: DueAlarm, error: DurableError | None, began: bool) -> None:
        """A firing is durable (or was none), or it failed, and then nothing of it exists."""
        if error is None:
            self._fired += began
            self._land(alarm)
        elif (hold := hold_seconds(error, began)) is not None:
            self._land(alarm, hold)
        else:
            self._failed(alarm, problem_of(error), _DeadlineFiring(alarm, self._noted, self._rounds))

    def _noted(self, alarm: DueAlarm, error: DurableError | None, _: bool) -> None:
        """A failure stands in the alarm's row, or could not be written there."""
        self._land(alarm, None if error is None else UNNOTED_SECONDS)

    def _land(self, alarm: DueAlarm, hold: float | None = None) -> None:
        """The firing is over; with `hold`, its alarm is armed as before, and offered again after so many seconds."""
        key = (alarm.address, alarm.name)
        is_due_again = self._flights.end(key)
        if key not in self._armed:
            self._streaks.pop(key, None)
            if hold is not None:
                later = timedelta(seconds=hold * random.uniform(1, 2))  # noqa: S311 - no secret
                self._put(key, alarm.at, self._clock.now() + later)
        elif is_due_again:
            heapq.heappush(self._heap, (self._armed[key].when, next(self._order), key))
        self._wake()

    def _prune(self) -> None:
        """Take entries off the top that were disarmed or armed anew."""
        heap = self._heap
        while heap:
            armed = self._armed.get(heap[0][2])
            if armed is not None and armed.when == heap[0][0]:
                return
            heapq.heappop(heap)

    # Time.

    def _wake(self) -> None:
        """See to it that `run_due` comes when there is something to do."""
        if self._paused:
            return
        if self._is_partial and len(self._armed) < WINDOW_MAX // 2:
            self._sweep()
        seconds = self._sweep_at - self._clock.monotonic() if self._may_sweep() else LOOK_SECONDS_MAX
        if len(self._flights) < IN_FLIGHT_MAX:  # else a firing that ends wakes us
            if self._flights.ready:
                seconds = 0.0
            elif self._heap:
                seconds = min(seconds, (self._heap[0][0] - self._clock.now()).total_seconds())
        at = self._loop.time() + min(max(seconds, 0.0), LOOK_SECONDS_MAX)
        if self._timer is None or at < self._timer_at:
            self._stop_timer()
            self._timer, self._timer_at = self._loop.call_at(at, self.run_due, context=self._context), at

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The store.

    def _sweep(self) -> None:
        """Look into the store for what comes near."""
        if self._sweeping is not None or self._paused:
            return
        now = self._clock.now()
        self._sweep_at = self._clock.monotonic() + self._poll.total_seconds()
        # From here on, so that no commit during the query is missed.
        self._horizon = max(self._horizon, now + 2 * self._poll)
        limit = WINDOW_MAX + len(self._flights) + len(self._armed)
        self._sweeping = asyncio.ensure_future(self._store.due_alarms(self._served(), self._horizon, limit))
        # A callback, not an awaiting task: what it makes fire must not find itself in a task of ours.
        self._sweeping.add_done_callback(lambda done: self._swept(done, limit))

    def _swept(self, done: asyncio.Future[list[DueAlarm]], limit: int) -> None:
        self._sweeping = None
        if done.cancelled() or self._paused:
            return
        if (error := done.exception()) is not None:
            log.warning("the alarms that are due could not be read, trying again: %s", error)
            self._sweep_at = self._clock.monotonic() + RETRY_SECONDS
            self._is_partial = False
        else:
            page = done.result()
            for address, name, at in page:
                key = (address, name)
                if key not in self._armed and key not in self._flights:
                    self._put(key, at, at)
            self._is_partial = len(page) >= limit
            if self._is_partial:
                self._horizon = page[-1].at
        self._wake()

    def _shrink(self) -> None:
        """Forget the latest: a sweep brings them back when there is room."""
        soonest = heapq.nsmallest(WINDOW_MAX, self._armed.items(), key=lambda entry: entry[1].when)
        kept = dict(soonest)
        self._horizon = min(armed.at for key, armed in self._armed.items() if key not in kept)
        self._is_partial = True
        self._armed = kept
        self._heap = [(armed.when, next(self._order), key) for key, armed in soonest]

    # The end.

    def statistics(self) -> SchedulerStatistics:
        """See `Scheduler`."""
        return SchedulerStatistics(len(self._armed), len(self._flights), self._fired, self._late_seconds_max)

    def pause(self) -> None:
        """See `Scheduler`."""
        self._paused = True
        self._stop_timer()

    async def close(self) -> None:
        """See `Scheduler`."""
        self.pause()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait((self._sweeping,))


class Owner(Protocol):
    """What it takes of a shard."""

    registry: Registry
    store: Store
    clock: Clock
    settings: ShardSettings


def deadline_scheduler(shard: Owner) -> DeadlineScheduler:
    """The scheduler of shards that are given no other."""
    poll = shard.settings.alarms.poll
    return DeadlineScheduler(shard.store, shard.registry.served, shard.clock, poll_seconds=poll)
