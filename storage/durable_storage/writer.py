"""Group commit: while one batch is on its way to the store, the next one gathers.

There is no linger timer. An idle writer starts with whatever one tick of the loop brought; a busy one takes all
that came during the commit before, so that batches grow with load by themselves (the group commit of DeWitt et
al., 1984). Several changes to one object fold into one row, because an entry is made into a `Change` only when
its batch leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from durable_storage import crashpoints, storage_events
from durable_storage.errors import DurableError, Fenced
from durable_storage.limits import BATCH_ROWS_MAX
from durable_storage.store import Change, Store

log = logging.getLogger("durable_engine.shard")


class Entry(Protocol):
    """What one object has to commit, and what waits for it."""

    cancelled: bool
    """Set when the turns in it were undone before the batch left; the entry is then skipped."""

    def change(self) -> Change:
        """The change as of now. Called once, when the batch leaves; later turns need another entry."""

    def committed(self) -> None:
        """The change is durable: outputs may leave."""

    def refused(self, error: Exception) -> None:
        """The change was not applied and never will be: undo, and tell the callers."""


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """Counts since the writer started."""

    batches: int
    rows: int
    refused: int
    waiting: int
    in_flight: int


class Writer:
    """Owns the one commit in flight of a shard.

    `on_commit(sent_at)` is called after each commit, before anybody hears of it, with the monotonic time at which it
    was sent (ownership was ours at least until then); `on_outcomes()` when its entries have heard;
    `on_stop(error)` once when the store refuses to go on: with Fenced when the
    ownership is lost, with the error itself when the store broke its contract. `shard` is its number, for telemetry.
    """

    def __init__(
        self,
        store: Store,
        monotonic: Callable[[], float],
        on_commit: Callable[[float], None],
        on_outcomes: Callable[[], None],
        on_stop: Callable[[Exception], None],
        shard: int = 0,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._on_commit = on_commit
        self._on_outcomes = on_outcomes
        self._on_stop = on_stop
        self._shard = shard
        self._gathering: list[Entry] = []
        self._flying: list[Entry] = []
        self._commit: asyncio.Task[dict[int, Exception]] | None = None
        self._start_scheduled = False
        self._stopped = self._abandoned = False
        self._batches = self._rows = self._refused = 0

    def add(self, entry: Entry) -> None:
        """Put an entry into the gathering batch. It leaves with the next commit."""
        self._gathering.append(entry)
        if self._commit is None and not self._start_scheduled and not self._stopped:
            self._start_scheduled = True
            asyncio.get_running_loop().call_soon(self._start)

    def stop(self) -> None:
        """Take no more batches; one in flight is left to finish."""
        self._stopped = True

    def abandon(self) -> None:
        """The same, and nobody hears of the one in flight either: it is durable or not, as after a crash."""
        self._stopped = self._abandoned = True

    def statistics(self) -> WriterStatistics:
        """A snapshot."""
        return WriterStatistics(self._batches, self._rows, self._refused, len(self._gathering), len(self._flying))

    def _start(self) -> None:
        self._start_scheduled = False
        if self._stopped:
            return
        entries = [entry for entry in self._gathering[:BATCH_ROWS_MAX] if not entry.cancelled]
        del self._gathering[:BATCH_ROWS_MAX]
        if not entries:
            if self._gathering:
                self._start()
            return
        if crashpoints.reach("before_commit", self._store):
            return
        self._flying = entries
        sent_at = self._monotonic()
        saving = storage_events.save(self._store, [entry.change() for entry in entries], self._shard)
        self._commit = asyncio.get_running_loop().create_task(saving)
        if crashpoints.any_armed():
            # Behind the task's first step, which hands the batch over.
            asyncio.get_running_loop().call_soon(crashpoints.reach, "in_commit", self._store)
        # A callback, not an awaiting task: what is released may run user code, which must not find itself
        # inside a task of ours.
        self._commit.add_done_callback(lambda done: self._finish(done, sent_at))

    def _finish(self, done: asyncio.Task[dict[int, Exception]], sent_at: float) -> None:
        entries, self._flying = self._flying, []
        self._commit = None
        if self._abandoned:
            _look_at(done)
            return
        if done.cancelled():
            self._fail(entries, Fenced("the shard was stopped while a commit was under way"))
            return
        error = done.exception()
        if error is not None:
            self._fail(entries, error if isinstance(error, Exception) else DurableError(str(error)))
            return
        if crashpoints.reach("after_commit", self._store):
            return
        refused = done.result()
        self._batches += 1
        self._rows += len(entries) - len(refused)
        self._refused += len(refused)
        self._on_commit(sent_at)
        if self._gathering and not refused:
            # The next batch is on its way before the outcomes of this one are worked off: the disk need not wait.
            self._start()
            asyncio.get_running_loop().call_soon(self._work_off, entries, refused)
        else:
            self._work_off(entries, refused)

    def _work_off(self, entries: list[Entry], refused: dict[int, Exception]) -> None:
        for position, entry in enumerate(entries):
            try:
                if not refused or position not in refused:
                    entry.committed()
                else:
                    entry.refused(refused[position])
            except Exception:
                log.exception("an outcome of a commit could not be worked off; the others are")
        self._on_outcomes()
        if self._gathering and self._commit is None and not self._start_scheduled:
            self._start_scheduled = True
            asyncio.get_running_loop().call_soon(self._start)

    def _fail(self, entries: list[Entry], error: Exception) -> None:
        """The store gave up. Whether the batch exists is not ours to say, so nobody is told anything."""
        self._stopped = True
        self._flying = entries
        self._on_stop(error)


def _look_at(done: asyncio.Task[dict[int, Exception]]) -> None:
    """Nobody wants to know how it ended; asyncio complains of errors that nobody looked at."""
    if not done.cancelled():
        done.exception()
