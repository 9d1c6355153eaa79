"""One heap of deadlines for all suspended turns of a shard, pruned lazily (the idea is trio's).

A timer per turn would cost more than most turns; here arming is a heap push, disarming is forgetting, and the
loop holds at most one timer, for the earliest deadline.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from durable_shards.clock import Clock

COMPACT_MIN = 64

log = logging.getLogger("durable_engine.shard")


class Expirable(Protocol):
    """What can be armed. `armed` is the deadline that counts, or None: an older heap entry is stale."""

    armed: float | None


class Deadlines:
    """Calls `expire(item)` once for each armed item whose deadline passes."""

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop, expire: Callable[[Any], None]) -> None:
        self._clock = clock
        self._loop = loop
        self._expire = expire
        self._heap: list[tuple[float, int, Expirable]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._stale = 0

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, item: Expirable, deadline: float) -> None:
        """Expire `item` at `deadline` (monotonic seconds); an earlier arming of it is replaced."""
        if item.armed is not None:
            self._stale += 1
        item.armed = deadline
        heapq.heappush(self._heap, (deadline, next(self._order), item))
        if deadline < self._timer_at:
            self._set_timer(deadline)

    def disarm(self, item: Expirable) -> None:
        """Forget the deadline of an item; its place in the heap goes when half of the heap is such."""
        if item.armed is None:
            return
        item.armed = None
        self._stale += 1
        if self._stale > COMPACT_MIN and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].armed == entry[0]]
            heapq.heapify(self._heap)
            self._stale = 0

    def next_due(self) -> float | None:
        """The earliest deadline that counts (monotonic seconds); None when there is none."""
        while self._heap and self._heap[0][2].armed != self._heap[0][0]:
            heapq.heappop(self._heap)
            self._stale -= 1
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Expire what is due and set the timer for what is next. Called by the timer, or by a test's clock."""
        now = self._clock.monotonic()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].armed != self._heap[0][0]):
            deadline, _, item = heapq.heappop(self._heap)
            if item.armed != deadline:
                self._stale -= 1
                continue
            item.armed = None
            try:
                self._expire(item)
            except Exception:
                log.exception("a deadline could not be acted on")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = float("inf")
        if self._heap:
            self._set_timer(self._heap[0][0])

    def close(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, deadline - self._clock.monotonic())
        self._timer_at = deadline
        self._timer = self._loop.call_later(delay, self.run_due)
