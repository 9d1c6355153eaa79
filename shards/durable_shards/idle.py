"""What happens to objects that nobody calls: hibernation, shutdown, and the memory budget.

An idle object becomes its bytes (hibernate) and later nothing (shutdown: the next call loads it). No timer per
object: each live object stands in one bucket of a wheel of whole seconds, is looked at when its bucket comes, and
moves to a later bucket if it was used meanwhile. Above the budget the longest idle go first.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from heapq import merge
from itertools import islice
from math import inf
from operator import attrgetter, itemgetter

from durable_shards.activation import Activation
from durable_shards.clock import Clock
from durable_shards.directory import ClassTable, Directory, Hibernated
from durable_storage.store import AlarmRow

SWEEP_SECONDS = 1.0
LOOK_SECONDS_MAX = 3600
"""However long an object may be idle, it is looked at as often as that, so that the wheel has few buckets."""
LIVE_OVERHEAD_BYTES = 1_000
"""Resident size of the smallest live object: activation, instance, id, table entries. `make bench` measures it."""
LIVE_STATE_FACTOR = 2
"""Encoded state, and its values as Python objects: as much again if they are texts, more if they are numbers."""
ASLEEP_OVERHEAD_BYTES = 250
ALARM_OVERHEAD_BYTES = 300
SAMPLE = 1_000
LOOKED_AT_ONCE = 1_000
"""Objects that may hibernate before the loop turns: each may have a last word to say."""
EVICT_SHARE = 64
"""Above the budget, at least one part in so many of the memory is freed at once, so that this stays rare."""

Candidate = tuple[float, int, Callable[[], None]]
"""Since when it is idle, the bytes that it takes, and how to forget it."""


class IdleSweep:
    """Looks through the idle objects of a shard once a second, touching only those whose time may have come."""

    def __init__(self, clock: Clock, memory_bytes_max: int) -> None:
        self._clock = clock
        self._memory_bytes_max = memory_bytes_max
        self._directory: Directory | None = None
        self._wheel: defaultdict[int, set[Activation]] = defaultdict(set)
        self._swept = int(clock.monotonic())
        self._timer: asyncio.TimerHandle | None = None
        self.hibernated = 0
        self.evicted = 0

    def start(self, directory: Directory, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to sweep."""
        self._directory = directory
        self._swept = int(self._clock.monotonic())
        self._timer = loop.call_later(SWEEP_SECONDS, self._tick, loop)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    def watch(self, act: Activation) -> None:
        """Look at a live object when it may have been idle for long enough, and not when that was thought before."""
        if act.bucket is not None:
            act.unwatch()
        patience = act.home.patience(act.address.object_id)
        if patience is not None:
            self._put(act, min(act.last_used + patience, self._swept + LOOK_SECONDS_MAX))

    def sweep(self) -> None:
        """Do all that is due."""
        while not self._sweep_part():
            pass

    def _sweep_part(self) -> bool:
        """Do a part of what is due, so that the loop turns meanwhile; whether that was all."""
        assert self._directory is not None, "start comes first"
        now = self._clock.monotonic()
        self._swept = int(now)
        looked_at = 0
        # Not second by second: a clock that is set, or moved by a test, may jump over years.
        for second in sorted(second for second in self._wheel if second <= now):
            bucket = self._wheel[second]
            while bucket:
                if looked_at == LOOKED_AT_ONCE:
                    return False
                looked_at += 1
                act = bucket.pop()
                act.bucket = None
                self._look_at(act, now)
            del self._wheel[second]
        for table in self._directory.tables():
            self._forget_asleep(table, now)
        self._keep_budget(self._directory, now)
        self._directory.prune()
        return True

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = SWEEP_SECONDS if self._sweep_part() else 0
        self._timer = loop.call_later(pause, self._tick, loop)

    def _put(self, act: Activation, due: float) -> None:
        act.bucket = self._wheel[int(due) + 1]
        act.bucket.add(act)

    def _look_at(self, act: Activation, now: float) -> None:
        options = act.home.options(act.address.object_id)
        patience = act.home.patience(act.address.object_id)
        assert patience is not None, "only objects that can lose patience are watched"
        idle_seconds = now - act.last_used
        if idle_seconds < patience:
            self.watch(act)
        elif not act.clean:
            self._put(act, now)
        elif options.shutdown_after is not None and idle_seconds >= options.shutdown_after:
            act.home.evict(act, "idle")
            self.evicted += 1
        else:
            act.home.hibernate(act)
            self.hibernated += 1

    def _forget_asleep(self, table: ClassTable, now: float) -> None:
        due = [
            object_id
            for object_id, own in table.own_options.items()
            if (kept := table.asleep.get(object_id)) is not None and _is_over(own.shutdown_after, now - kept.idle_since)
        ]
        for object_id, kept in table.asleep.items():  # the longest idle come first
            if object_id in table.own_options:
                continue
            if not _is_over(table.spec.options.shutdown_after, now - kept.idle_since):
                break
            due.append(object_id)
        for object_id in due:
            table.forget(object_id, "idle")
        self.evicted += len(due)

    def estimate(self) -> int:
        """Bytes that the objects of this shard take, by a sample of their states."""
        tables = self._directory.tables() if self._directory is not None else []
        return sum(
            _scaled(len(table.live), [_live_bytes(act) for act in islice(table.live.values(), SAMPLE)])
            + _scaled(len(table.asleep), [_asleep_bytes(kept) for kept in islice(table.asleep.values(), SAMPLE)])
            for table in tables
        )

    def _keep_budget(self, directory: Directory, now: float) -> None:
        taken = self.estimate()
        if taken <= self._memory_bytes_max:
            return
        excess = max(taken - self._memory_bytes_max, taken // EVICT_SHARE)
        chosen = []
        for idle_since, size, forget in _longest_idle(directory, excess):
            if excess <= 0 or idle_since >= now:
                break
            excess -= size
            chosen.append(forget)
        for forget in chosen:
            forget()
        self.evicted += len(chosen)


def _is_over(limit: float | None, seconds: float) -> bool:
    return limit is not None and seconds >= limit


def _longest_idle(directory: Directory, enough_bytes: int) -> Iterator[Candidate]:
    """Objects at rest, live and hibernated ones alike, the longest idle first; at least so many as are enough."""
    tables = directory.tables()
    until = _used_until([table.live for table in tables], enough_bytes // LIVE_OVERHEAD_BYTES + 1)
    live = [act for table in tables for act in table.live.values() if act.last_used <= until and act.clean]
    live.sort(key=attrgetter("last_used"))
    awake = ((act.last_used, _live_bytes(act), partial(act.home.evict, act, "memory")) for act in live)
    return merge(awake, *map(_asleep, tables), key=itemgetter(0))


def _used_until(crowds: list[dict[str, Activation]], count: int) -> float:
    """A time after which all but about the `count` longest idle were used: by a sample, since sorting takes long."""
    total = sum(map(len, crowds))
    step = total // SAMPLE + 1
    sample = sorted(act.last_used for crowd in crowds for act in islice(crowd.values(), 0, None, step))
    rank = count * len(sample) // max(total, 1) + 1
    return sample[rank] if rank < len(sample) else inf


def _asleep(table: ClassTable) -> Iterator[Candidate]:
    return (
        (kept.idle_since, _asleep_bytes(kept), partial(table.forget, object_id, "memory"))
        for object_id, kept in table.asleep.items()
    )


def _scaled(count: int, sizes: list[int]) -> int:
    """What `count` objects take if they are like those of the sample."""
    return count * sum(sizes) // len(sizes) if sizes else 0


def _live_bytes(act: Activation) -> int:
    return LIVE_OVERHEAD_BYTES + LIVE_STATE_FACTOR * len(act.state or b"") + _alarm_bytes(act.alarms_now)


def _asleep_bytes(kept: Hibernated) -> int:
    return ASLEEP_OVERHEAD_BYTES + len(kept.state or b"") + _alarm_bytes(kept.alarms)


def _alarm_bytes(alarms: Mapping[str, AlarmRow]) -> int:
    return sum(ALARM_OVERHEAD_BYTES + len(row.payload or b"") + len(row.problem or "") for row in alarms.values())
