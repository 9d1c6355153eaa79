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


_Outcome = tuple[list["Entry"], dict[int, Exception]]
"""A batch that was committed, and what was refused of it."""


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
        self._commit: asyncio.Task[_Outcome | None] | None = None
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
        if entries := self._next_batch():
            self._commit = asyncio.get_running_loop().create_task(self._commit_all(entries))
            self._commit.add_done_callback(self._ended)

    def _next_batch(self) -> list[Entry]:
        """What leaves with the next commit, if anything does."""
        while self._gathering and not self._stopped:
            entries = [entry for entry in self._gathering[:BATCH_ROWS_MAX] if not entry.cancelled]
            del self._gathering[:BATCH_ROWS_MAX]
            if entries:
                return [] if crashpoints.reach("before_commit", self._store) else entries
        return []

    async def _commit_all(self, entries: list[Entry]) -> _Outcome | None:
        """Commit batch after batch for as long as there are any; the outcome of the last, unless nobody may hear it.

        One task for all of them: a busy loop lets a task wait for a whole round, and each commit would pay for its
        own task's beginning and end.
        """
        loop = asyncio.get_running_loop()
        while True:
            self._flying = entries
            sent_at = self._monotonic()
            changes = [entry.change() for entry in entries]
            if crashpoints.any_armed():  # behind the first step, which hands the batch over
                loop.call_soon(crashpoints.reach, "in_commit", self._store)
            refused = await storage_events.save(self._store, changes, self._shard)
            if self._abandoned or crashpoints.reach("after_commit", self._store):
                return None
            self._batches += 1
            self._rows += len(entries) - len(refused)
            self._refused += len(refused)
            self._on_commit(sent_at)
            # What was undone changes what is gathering, so that has to be worked off first.
            following = [] if refused else self._next_batch()
            if not following:
                return entries, refused
            # In a step of the loop of its own, as in `_ended`: what is released may run user code, which must not find
            # itself inside a task of ours. The next batch is on its way by then.
            loop.call_soon(self._work_off, entries, refused)
            entries = following

    def _ended(self, done: asyncio.Task[_Outcome | None]) -> None:
        self._commit = None
        if done.cancelled():
            error: BaseException | None = Fenced("the shard was stopped while a commit was under way")
        else:
            error = done.exception()
        if error is None:
            if (outcome := done.result()) is not None:
                self._flying = []
                self._work_off(*outcome)
        elif not self._abandoned:
            self._fail(error if isinstance(error, Exception) else DurableError(str(error)))

    def _work_off(self, entries: list[Entry], refused: dict[int, Exception]) -> None:
        if self._abandoned:
            return
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

    def _fail(self, error: Exception) -> None:
        """The store gave up. Whether the batch in flight exists is not ours to say, so nobody is told anything."""
        self._stopped = True
        self._on_stop(error)
