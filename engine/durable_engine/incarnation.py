"""One process of a shard, from the order to fork it to its grave: how it is spoken to, signalled and looked into."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from durable_engine.footprint import data_bytes
from durable_engine.stackdump import StackDump
from durable_engine.watchdog import Watchdog
from durable_shards.board import BoardReader, monotonic_ms
from durable_shards.control import Ask, Channel, Failed, FromShard, ShardConfig, ToShard
from durable_storage.errors import Unavailable


class Code(Protocol):
    """Where processes come from: a fork server, with the user's classes as it has imported them."""

    @property
    def classes(self) -> dict[str, int]:
        """Schema version by stored name."""

    def fork(self, config: ShardConfig, control: socket.socket, dump: int, *, number: int, page: int) -> None:
        """`control` is the shard's end of the control channel, `dump` the file for stacks. Raises OSError."""


class Incarnation:
    """A process that is being forked, runs, or has just died."""

    def __init__(
        self,
        shard: int,
        number: int,
        code: Code,
        page: int,
        board: BoardReader,
        watchdog: Watchdog,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Incarnation, FromShard], None],
    ) -> None:
        self.number: int = number
        self.code: Code = code
        self.page: int = page
        self.board: BoardReader = board
        self.watchdog: Watchdog = watchdog
        self.stands_by: asyncio.Future[str] = loop.create_future()
        """Done once it waits for its turn; holds why it never will, or an empty text."""
        self.serves: asyncio.Future[str] = loop.create_future()
        """The same for serving."""
        self.bind: str = ""
        """What it was told to listen at. It may die before it says that it does."""
        self.gone: asyncio.Event = asyncio.Event()
        self.stall: asyncio.Task[None] | None = None
        self.pid: int = 0
        self.started_at: float = loop.time()
        self.failed: Failed | None = None
        """What it said when it gave up."""
        self.reason: str = ""
        """Why it is about to die, where that is known."""
        self.condemned: bool = False
        """The watchdog has decided to kill it."""
        self.fresh_bytes: int = 0
        """What it took when it began to serve; see `memoryguard`."""
        self.orphaned: bool = False
        """Its fork server is gone, and can make no other."""
        self.shard: int = shard
        self._loop = loop
        self._pidfd: int | None = None
        self._dies_young = False
        self._dump = StackDump()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._next_ask = 0
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The end of the channel says less than the end of the process, which follows.
        self._channel = Channel(ours, loop, on_message=partial(on_message, self), on_close=lambda: None)
        board.renew(monotonic_ms())

    def launch(self, config: ShardConfig) -> None:
        """Order the process. Raises OSError."""
        self.bind = config.bind
        with self._theirs:
            self.code.fork(config, self._theirs, self._dump.descriptor, number=self.number, page=self.page)

    def forked(self, pid: int, pidfd: int | None) -> None:
        """It is there."""
        self.pid, self._pidfd = pid, pidfd
        self.board.renew(monotonic_ms())  # the fork server may have been busy with imports for long
        if self._dies_young:
            self.kill()

    def came_up(self) -> None:
        """It serves."""
        self.fresh_bytes = data_bytes(self.pid)
        self.serves.set_result("")

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self._pidfd is not None

    def send(self, message: ToShard) -> None:
        """Tell it something."""
        self._channel.send(message)

    def ask(self, op: str, arguments: dict[str, Any]) -> asyncio.Future[Any]:
        """Ask it something; fails with Unavailable when it dies before it answers."""
        self._next_ask += 1
        answer = self._asked[self._next_ask] = self._loop.create_future()
        self._channel.send(Ask(self._next_ask, op, arguments))
        return answer

    def answered(self, number: int, value: Any) -> None:
        """The answer to an earlier question."""
        answer = self._asked.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(value)

    def kill(self) -> None:
        """End it now; if it is still to be forked, as soon as it is there."""
        if self._pidfd is None:
            self._dies_young = True
        else:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it is dead and reaped, and the news of it are on their way

    def kill_and_see(self, on_end: Callable[[], None]) -> None:
        """End it, and watch it go: there is no fork server any more to tell of its end."""
        self.orphaned = True
        self.kill()
        if self._pidfd is None:
            self._loop.call_soon(on_end)
        else:
            self._loop.add_reader(self._pidfd, on_end)

    async def stack(self) -> str:
        """The stacks of its threads, for people."""
        return await self._dump.request(self._pidfd) if self._pidfd is not None else ""

    def bury(self, why: str) -> str:
        """Let go of everything; the stack that it left behind when it crashed, or an empty text."""
        self._channel.close()
        self.gone.set()
        for outcome in (self.stands_by, self.serves):
            if not outcome.done():
                outcome.set_result(why)
        crash = self._dump.rest()
        self._dump.close()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Unavailable(f"shard {self.shard} died"))
        self._asked.clear()
        return crash
