"""Time, as one small seam: wall time for what users see, monotonic time for leases and deadlines.

`monotonic` counts on while the machine is suspended (CLOCK_BOOTTIME): a lease that did not run out during a
suspension would let a process that slept through a takeover answer reads.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of time."""

    def now(self) -> datetime:
        """Wall time, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back and never stop."""


class SystemClock:
    """The machine's clocks."""

    # No method of Python's: each batch of calls, and each read that is run at once, asks for it.
    monotonic = staticmethod(partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)))

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves only when told to, for tests."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2024, 1, 1, tzinfo=UTC)
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Move both clocks forward."""
        if by < timedelta(0):
            raise ValueError("a clock can only be advanced; pass a positive timedelta")
        self._now += by
        self._monotonic += by.total_seconds()
