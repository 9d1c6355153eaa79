"""What happens to objects that nobody calls: hibernation, shutdown, and the memory budget.

An idle object becomes its bytes (hibernate) and later nothing (shutdown: the next call loads it). No timer per
object: each live object stands in one bucket of a wheel of whole seconds, is looked at when its bucket comes, and
moves to a later bucket if it was used meanwhile. Above the budget the longest idle go first.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from heapq import nsmallest
from typing import Any

from durable_shards.activation import Activation
from durable_shards.clock import Clock
from durable_shards.directory import ClassTable, Directory
from durable_shards.spec import ClassSpec

SWEEP_SECONDS = 1.0
LIVE_OVERHEAD_BYTES = 1_500
"""Resident size of a live small object beyond its encoded state: activation, instance, ids, table entries."""
ASLEEP_OVERHEAD_BYTES = 400
SAMPLE = 1_000
EVICT_SHARE = 16
"""Above the budget, at least one in this many objects goes at once, so that sweeps stay rare."""


class IdleSweep:
    """Looks through the idle objects of a shard once a second, touching only those whose time may have come."""

    def __init__(self, clock: Clock, memory_bytes_max: int) -> None:
        self._clock = clock
        self._memory_bytes_max = memory_bytes_max
        self._directory: Directory | None = None
        self._wheel: defaultdict[int, list[tuple[ClassTable, Activation]]] = defaultdict(list)
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

    def watch(self, table: ClassTable, act: Activation) -> None:
        """Look at a live object when it may have been idle for long enough."""
        patience = patience_of(table.spec)
        if patience is not None:
            self._wheel[int(act.last_used + patience) + 1].append((table, act))

    def sweep(self) -> None:
        """Do what is due. Called by the timer, or by a test's clock."""
        assert self._directory is not None, "start comes first"
        now = self._clock.monotonic()
        for second in range(self._swept + 1, int(now) + 1):
            for table, act in self._wheel.pop(second, ()):
                self._look_at(table, act, now)
        self._swept = int(now)
        for table in self._directory.tables():
            self._forget_asleep(table, now)
        self._keep_budget(self._directory, now)
        self._directory.prune()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(SWEEP_SECONDS, self._tick, loop)
        self.sweep()

    def _look_at(self, table: ClassTable, act: Activation, now: float) -> None:
        if table.live.get(act.address.object_id) is not act:
            return
        patience = patience_of(table.spec)
        assert patience is not None, "only objects that can lose patience are watched"
        idle_seconds = now - act.last_used
        if idle_seconds < patience:
            self.watch(table, act)
        elif not act.clean:
            self._wheel[int(now) + 1].append((table, act))
        elif table.spec.options.shutdown_after is not None and idle_seconds >= table.spec.options.shutdown_after:
            table.evict(act, "idle")
            self.evicted += 1
        else:
            table.hibernate(act)
            self.hibernated += 1

    def _forget_asleep(self, table: ClassTable, now: float) -> None:
        shutdown_after = table.spec.options.shutdown_after
        if shutdown_after is None:
            return
        due = []
        for object_id, kept in table.asleep.items():  # the longest idle come first
            if now - kept.idle_since < shutdown_after:
                break
            due.append(object_id)
        for object_id in due:
            table.forget(object_id, "idle")
        self.evicted += len(due)

    def estimate(self) -> int:
        """Bytes that the objects of this shard take, by a sample of their states."""
        tables = self._directory.tables() if self._directory is not None else []
        return sum(self._estimate(table) for table in tables)

    @staticmethod
    def _estimate(table: ClassTable) -> int:
        total = 0
        for held, overhead in ((table.live, LIVE_OVERHEAD_BYTES), (table.asleep, ASLEEP_OVERHEAD_BYTES)):
            if held:
                some: list[Any] = [one for one, _ in zip(held.values(), range(SAMPLE), strict=False)]
                mean = sum(len(one.state or b"") for one in some) / len(some)
                total += int(len(held) * (mean * (2 if held is table.live else 1) + overhead))
        return total

    def _keep_budget(self, directory: Directory, now: float) -> None:
        excess = self.estimate() - self._memory_bytes_max
        if excess <= 0:
            return
        for table in directory.tables():
            while excess > 0 and table.asleep:
                kept = table.forget(next(iter(table.asleep)), "memory")
                excess -= len(kept.state or b"") + ASLEEP_OVERHEAD_BYTES
                self.evicted += 1
        if excess <= 0:
            return
        live = [act for act in directory.live() if act.clean]
        share = max(1, len(live) // EVICT_SHARE)
        for act in nsmallest(max(share, excess // LIVE_OVERHEAD_BYTES), live, key=lambda act: act.last_used):
            if excess <= 0 or act.last_used >= now:
                break
            excess -= 2 * len(act.state or b"") + LIVE_OVERHEAD_BYTES
            act.home.evict(act, "memory")
            self.evicted += 1


def patience_of(spec: ClassSpec) -> float | None:
    """Seconds of idleness after which a live object of this class does not stay as it is; None for never."""
    options = spec.options
    limits = [limit for limit in (options.hibernate_after, options.shutdown_after) if limit is not None]
    return min(limits) if limits else None
