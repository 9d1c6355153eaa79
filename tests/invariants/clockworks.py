"""The objects of the alarms machine: every arming has a token, and every fate of a token stands in the state."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from durable_engine import DurableObject, Rejected, alarm, field, handler
from durable_shards.clock import ManualClock

FIRST_OF_FIRINGS = 1_000_000
"""Tokens from here on are of armings that firings made."""
clocks: list[ManualClock] = []
"""The last one is the time."""
doors: list[asyncio.Event] = []
"""The last one is what slow alarms wait for."""
tokens_of_firings: list[Iterator[int]] = []
"""The last one gives the next. What a chain does depends on its token, so each history begins to count anew."""


def wind_up(clock: ManualClock) -> None:
    """Begin a history: nothing of an earlier one is left."""
    clocks[:] = [clock]
    doors[:] = [asyncio.Event()]
    tokens_of_firings[:] = [itertools.count(FIRST_OF_FIRINGS)]


class Clockwork(DurableObject, hibernate_after=timedelta(seconds=5), shutdown_after=timedelta(seconds=15)):
    """Alarms called "out..." are set from outside, behind the object's back; of all others it keeps book."""

    armed: dict[str, int] = field(default_factory=dict)
    """Name: token."""
    fired: list[list[Any]] = field(default_factory=list)
    """[name, token, armed for, fired at]."""
    dropped: list[int] = field(default_factory=list)
    """Tokens that were cancelled, or replaced."""
    poisoned: bool = False

    def _arm(self, name: str, token: int, fails: int = 0, **when: Any) -> None:
        self.alarms.schedule(name, payload={"token": token, "fails": fails}, **when)
        if name in self.armed:
            self.dropped.append(self.armed[name])
        self.armed[name] = token

    @handler
    def arm(self, name: str, token: int, seconds: float, fails: int = 0) -> None:
        self._arm(name, token, fails, after=timedelta(seconds=seconds))

    @handler
    async def arm_slowly(self, name: str, token: int, seconds: float, fails: int = 0) -> None:
        await asyncio.sleep(0)
        self._arm(name, token, fails, after=timedelta(seconds=seconds))
        await asyncio.sleep(0)

    @handler
    def repeat(self, token: int, seconds: float, missed: Any) -> None:
        self._arm(f"every_{missed}", token, every=timedelta(seconds=seconds), missed=missed)

    @handler
    def cancel(self, name: str) -> bool:
        return self._cancel(name)

    def _cancel(self, name: str) -> bool:
        assert self.alarms.cancel(name) is (name in self.armed), f"{name}: {self.armed}"
        if name not in self.armed:
            return False
        self.dropped.append(self.armed.pop(name))
        return True

    @handler
    def cancel_and_arm(self, name: str, token: int, seconds: float, fails: int = 0) -> None:
        self._cancel(name)
        self._arm(name, token, fails, after=timedelta(seconds=seconds))

    @handler
    def cancel_all(self) -> None:
        for name in sorted(self.armed):
            self._cancel(name)

    @handler
    def reject(self, name: str, token: int, seconds: float, fails: int = 0) -> None:
        self._arm(name, -token, after=timedelta(seconds=seconds))
        raise Rejected("on second thoughts")

    @handler
    def poison(self, name: str, token: int, seconds: float, fails: int = 0) -> None:
        self._arm(name, -token, after=timedelta(seconds=seconds))
        self.poisoned = True

    # Firing.

    def _ring(self, name: str, payload: Any, at: datetime) -> None:
        token = payload["token"]
        self.fired.append([name, token, at.isoformat(), clocks[-1].now().isoformat()])
        if not name.startswith("every_"):
            self.armed.pop(name, None)

    @alarm
    def plain(self, payload: Any, at: datetime) -> None:
        self._ring("plain", payload, at)

    @alarm
    def by_hand(self, payload: Any, at: datetime) -> None:
        self._ring("by_hand", payload, at)

    @alarm
    def chain(self, payload: Any, at: datetime) -> None:
        self._ring("chain", payload, at)
        token = next(tokens_of_firings[-1])
        if token % 4:
            self._arm("chain", token, after=timedelta(seconds=token % 3))

    @alarm
    async def slow(self, payload: Any, at: datetime) -> None:
        self._ring("slow", payload, at)
        await doors[-1].wait()

    @alarm
    def bad(self, payload: Any, attempt: int, at: datetime) -> None:
        if attempt < payload["fails"]:
            self._arm("plain", -1, after=timedelta(0))
            self.fired.append(["bad", -1, at.isoformat(), at.isoformat()])
            raise RuntimeError("not yet")
        self._ring("bad", payload, at)

    def handle_alarm(self, name: str, payload: Any, at: datetime) -> None:
        self._ring(name, payload, at)


NAMES = ("plain", "by_hand", "chain", "slow", "bad")
OUTSIDE = ("out1", "out2")
MISSED = ("coalesce", "skip", "all")
ARMINGS = ("arm", "arm", "arm_slowly", "cancel_and_arm", "reject", "poison")
