"""The processes of one shard: the one that serves, the one that stands by to, and the one that did a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from durable_engine.incarnation import Code, Incarnation
from durable_engine.stalls import stalled
from durable_engine.watchdog import Verdict, Watchdog
from durable_shards.board import BoardReader, Boards
from durable_shards.control import FromShard


class Succession:
    """At most two of the three exist: a shard has two pages to write its heartbeats to."""

    def __init__(
        self,
        shard: int,
        loop: asyncio.AbstractEventLoop,
        boards: Boards,
        make_watchdog: Callable[[], Watchdog],
        on_message: Callable[[Incarnation, FromShard], None],
    ) -> None:
        self.number: int = 0
        """Of the newest process."""
        self.current: Incarnation | None = None
        self.standby: Incarnation | None = None
        """Waits to take the place of the current one."""
        self.former: Incarnation | None = None
        """Has sealed itself, and shows clients the way to the current one."""
        self._shard = shard
        self._loop = loop
        self._boards = boards
        self._make_watchdog = make_watchdog
        self._on_message = on_message
        self._seen_seq = 0

    def __iter__(self) -> Iterator[Incarnation]:
        """Those that there are."""
        return iter([each for each in (self.current, self.standby, self.former) if each is not None])

    def make(self, code: Code) -> Incarnation:
        """One more process, not launched yet; its place is for the caller to give."""
        taken = {process.page for process in self}
        page = next(page for page in self._boards.numbers(self._shard) if page not in taken)
        board = BoardReader(self._boards.page(page))
        self.number += 1
        return Incarnation(
            self._shard, self.number, code, page, board, self._make_watchdog(), self._loop, self._on_message
        )

    def find(self, number: int) -> Incarnation | None:
        """The process of this number, unless it is buried."""
        return next((process for process in self if process.number == number), None)

    def advance(self) -> Incarnation | None:
        """The one that stands by, if any, becomes the current one, and the current one the former."""
        if self.current is not None:
            self.former = self.current
        self.current, self.standby = self.standby, None
        return self.current

    def remove(self, process: Incarnation) -> None:
        """It is gone: what it had acknowledged is remembered."""
        self.remember(process.board.read().seq)
        for place in ("current", "standby", "former"):
            if getattr(self, place) is process:
                setattr(self, place, None)

    @property
    def acknowledged_seq(self) -> int:
        """The last commit that anybody was told of."""
        return max(self._seen_seq, *(process.board.read().seq for process in self), 0)

    def remember(self, seq: int) -> None:
        """Somebody was told of commit `seq`."""
        self._seen_seq = max(self._seen_seq, seq)

    def forget_commits(self) -> None:
        """Somebody accepted that what was acknowledged is lost."""
        self._seen_seq = 0

    def look(self, now_ms: int) -> None:
        """The watchdog's round."""
        for process in self:
            if not process.runs or process.condemned:
                continue
            verdict = process.watchdog.judge(process.board.heartbeat_ms(), now_ms)
            if verdict is not Verdict.FINE:
                process.condemned = verdict is Verdict.KILL
                process.stall = self._loop.create_task(stalled(process, verdict))
