"""Named places where a process may be told to die: compiled in always, and off until somebody asks.

A fault that strikes at random is seldom there where it hurts. These are the moments that matter to durability, so that
a test can have the crash at exactly one of them; the idea is that of TigerBeetle's and FoundationDB's injected faults.

    crashpoints.arm("after_commit", nth=3)  # this process kills itself after its third commit, before anybody is told

Whoever plays a process inside of another one (`durable_engine.testing`) arms with a `store`, so that only its own
shard is struck, and with an `act` that lets that shard die alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

POINTS: Final = {
    "before_load": "objects are about to be read from the store",
    "in_activation": "an object's state was read, migrated if it was older, and its after_load was not called",
    "before_commit": "turns ran, and nothing of them is on its way to the store yet",
    "in_commit": "a batch is on its way to the store, and no answer has come",
    "before_resolve": "the connection broke in a commit, and nobody has looked yet whether it was applied",
    "after_commit": "a batch is durable, and nobody was told",
    "before_reply": "a batch is durable and noted as such, and the replies to an object's callers are about to leave",
    "before_fire": "an alarm is due and its object in memory, and its method was not called",
}
"""Every point, and where it is."""


def kill_process() -> None:
    """End this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


class Armed:
    """An ordered crash."""

    def __init__(self, point: str, nth: int, store: object | None, act: Callable[[], None]) -> None:
        self.point = point
        self.store = store
        """Only the shard of this store is struck; None: any."""
        self.fired = False
        self._left = nth
        self._act = act

    def disarm(self) -> None:
        """Take the order back; nothing happens when it was carried out already."""
        if self in _armed:
            _armed.remove(self)

    def reached(self) -> bool:
        """Once more; whether that was the time."""
        self._left -= 1
        if self._left:
            return False
        _armed.remove(self)
        self.fired = True
        self._act()
        return True


_armed: list[Armed] = []


def any_armed() -> bool:
    """Whether anybody asked for a crash: for places that would have to do something in order to reach their point."""
    return bool(_armed)


def arm(point: str, *, nth: int = 1, store: object | None = None, act: Callable[[], None] = kill_process) -> Armed:
    """Crash when `point` is reached for the `nth` time from now. Raises ValueError for a point that does not exist."""
    if point not in POINTS:
        raise ValueError(f"there is no crash point {point!r}; there are: {', '.join(POINTS)}")
    if nth < 1:
        raise ValueError(f"nth counts from 1, not {nth!r}")
    armed = Armed(point, nth, store, act)
    _armed.append(armed)
    return armed


async def stop_at(point: str, store: object) -> None:
    """`reach` for whoever is waited for: if it counts as dead now, this never returns."""
    if reach(point, store):
        await asyncio.get_running_loop().create_future()


def reach(point: str, store: object) -> bool:
    """Say that a shard is at `point`. True: it counts as dead now, and whoever asked does nothing more for it."""
    if not _armed:
        return False
    waiting = [each for each in _armed if each.point == point and (each.store is None or each.store is store)]
    struck = [each for each in waiting if each.reached()]
    return bool(struck)
