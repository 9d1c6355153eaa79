"""One heap of deadlines for all suspended turns of a shard, pruned lazily (the idea is trio's).

A timer per turn would cost more than most turns; here arming is a heap push, disarming is forgetting, and the
loop holds at most one timer, for the earliest deadline.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from durable_shards.clock import Clock


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

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, item: Expirable, deadline: float) -> None:
        """Expire `item` at `deadline` (monotonic seconds); an earlier arming of it is replaced."""
        item.armed = deadline
        heapq.heappush(self._heap, (deadline, next(self._order), item))
        if deadline < self._timer_at:
            self._set_timer(deadline)

    def run_due(self) -> None:
        """Expire what is due and set the timer for what is next. Called by the timer, or by a test's clock."""
        now = self._clock.monotonic()
        heap = self._heap
        while heap and (heap[0][0] <= now or heap[0][2].armed != heap[0][0]):
            deadline, _, item = heapq.heappop(heap)
            if item.armed == deadline:
                item.armed = None
                self._expire(item)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = float("inf")
        if heap:
            self._set_timer(heap[0][0])

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
