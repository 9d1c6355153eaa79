"""Deadlines of calls, looked at together: one timer for the earliest of them, none per call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

SLACK_SECONDS: Final = 0.02
"""How long after its deadline a call is given up: the shard, which knows what became of it, shall say so first."""
NEVER: Final = float("inf")


class Sweeper:
    """Calls `expire(now)` when the earliest deadline is over; it returns the next one (or NEVER).

    In a steady stream of calls it runs about once per timeout, since the earliest deadline moves along.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[float], float]) -> None:
        self.earliest = NEVER
        self._loop = loop
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, deadline: float) -> None:
        """Take note of a deadline before `earliest`; later ones are found by the sweep."""
        self.earliest = deadline
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline + SLACK_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        self.earliest = NEVER
        earliest = self._expire(self._loop.time() - SLACK_SECONDS / 2)
        if earliest < self.earliest:
            self.arm(earliest)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
