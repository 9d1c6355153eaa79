"""What is still to be written to procrastinate's tables: the latest wish for each alarm, written in batches.

A shard's turns never wait for it. Wishes of one alarm fold into one, so that an object which arms the same alarm in
every call costs a job only as often as a batch is written. While the database is away they wait; past a bound new
ones are dropped and counted, because the sweep finds every alarm whose job is missing before it is due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Final

from durable_storage.backoff import Backoff
from durable_storage.store import DueAlarm

WAITING_MAX: Final = 100_000
"""Alarms whose jobs may wait to be written."""
BATCH_MAX: Final = 500
"""Alarms in one statement: about 40 ms of the database's time."""

Write = Callable[[Mapping[str, DueAlarm | None]], Awaitable[None]]

_log = logging.getLogger("durable_engine.procrastinate")


class _Wish:
    """A wish as an object of its own, so that one that came meanwhile is told from one that was written."""

    __slots__ = ("alarm",)

    def __init__(self, alarm: DueAlarm | None) -> None:
        self.alarm = alarm


class Outbox:
    """Wishes by the lock of their alarm; `run` writes them."""

    def __init__(self, write: Write, *, waiting_max: int = WAITING_MAX, batch_max: int = BATCH_MAX) -> None:
        self._write = write
        self._waiting: dict[str, _Wish] = {}
        self._waiting_max = waiting_max
        self._batch_max = batch_max
        self._batch = batch_max
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.dropped = 0
        """Wishes that found the outbox full."""
        self.failures = 0
        """Batches that could not be written, and were tried again."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, lock: str) -> bool:
        return lock in self._waiting

    def put(self, lock: str, alarm: DueAlarm | None) -> None:
        """Wish for a job of this alarm instead of the one it has, or (None) for none."""
        if lock not in self._waiting and len(self._waiting) >= self._waiting_max:
            if not self.dropped:
                _log.warning("%d alarms wait for their jobs: more are left to the sweep", self._waiting_max)
            self.dropped += 1
            return
        self._waiting[lock] = _Wish(alarm)
        self._filled.set()
        self._emptied.clear()

    async def emptied(self) -> None:
        """Return once everything is written."""
        await self._emptied.wait()

    async def run(self) -> None:
        """Write, for ever."""
        backoff = Backoff()
        while True:
            await self._filled.wait()
            batch = dict(islice(self._waiting.items(), self._batch))
            try:
                await self._write({lock: wish.alarm for lock, wish in batch.items()})
            except Exception as error:
                self._postpone(batch, error)
                await backoff.wait()
            else:
                self._settle(batch)
                backoff = Backoff()

    def _settle(self, batch: dict[str, _Wish]) -> None:
        for lock, wish in batch.items():
            if self._waiting.get(lock) is wish:
                del self._waiting[lock]
        self._batch = min(self._batch * 2, self._batch_max)
        if not self._waiting:
            self._filled.clear()
            self._emptied.set()

    def _postpone(self, batch: dict[str, _Wish], error: Exception) -> None:
        """To the end, and in smaller pieces: an alarm that the database refuses must not keep back all others."""
        self.failures += 1
        level = logging.WARNING if self._batch == self._batch_max else logging.DEBUG
        reason = error.__cause__ or error
        _log.log(level, "the jobs of %d alarms could not be written, and will be: %s", len(batch), reason)
        for lock, wish in batch.items():
            if self._waiting.get(lock) is wish:
                self._waiting[lock] = self._waiting.pop(lock)
        self._batch = max(1, self._batch // 2)
