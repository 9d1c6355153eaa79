"""The fork servers of one supervisor: one for each code that some shard runs.

There is one, until `reload` imports the objects anew in another. From then on each shard comes from one or the other,
and one that no shard needs any more is ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from durable_engine.forkserver import ForkServer
from durable_engine.forkserver_main import Exited, Forked, ForkFailed, Load
from durable_engine.restarts import Restarts
from durable_engine.watchdog import is_stopped
from durable_shards.board import Boards, monotonic_ms

if TYPE_CHECKING:
    from durable_engine.keeper import ShardKeeper

_log = logging.getLogger("durable_engine.supervisor")


class ForkServers:
    """Starts them, hears what they say of shards, replaces those that are lost, ends those that nobody needs."""

    def __init__(
        self,
        first: ForkServer,
        boards: Boards,
        load: Load,
        *,
        loop: asyncio.AbstractEventLoop,
        stall_timeout_ms: float,
        keepers: Callable[[], Sequence[ShardKeeper]],
        in_background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.first: ForkServer = first
        self._boards = boards
        self._load = load
        self._loop = loop
        self._stall_timeout_ms = stall_timeout_ms
        self._keepers = keepers
        self._in_background = in_background
        self._restarts = Restarts()
        self._ran_ms: dict[ForkServer, int] = {first: monotonic_ms()}
        """All of them, and when each was last seen not to be stopped by a signal."""
        self._loading: set[ForkServer] = set()
        """Those that no shard comes from yet."""

    async def load_anew(self) -> ForkServer:
        """Another fork server, which has imported the objects as they are now. Raises ObjectsFailedToLoad."""
        server = ForkServer.start(self._boards, self._load)
        try:
            await server.loaded()
        except BaseException:
            server.close()
            raise
        self._loading.add(server)
        self.listen(server)
        return server

    def settle(self, server: ForkServer) -> None:
        """What `load_anew` gave is kept from now on only for the shards that come from it."""
        self._loading.discard(server)

    def listen(self, server: ForkServer) -> None:
        """Pass on what it says of shards; see to it that it is replaced."""
        self._ran_ms[server] = monotonic_ms()
        server.listen(self._loop, on_event=self._on_event, on_lost=lambda reason: self._on_lost(server, reason))

    def look(self, now_ms: int) -> None:
        """A fork server runs nobody's code, so nothing but a signal can hold it up; but then no shard would restart."""
        for server, ran_ms in list(self._ran_ms.items()):
            if not is_stopped(server.pid):
                self._ran_ms[server] = now_ms
            elif now_ms - ran_ms > self._stall_timeout_ms:
                _log.error("the fork server has been stopped by a signal: killed")
                server.kill()
        needed = self._loading.union(*(keeper.codes for keeper in self._keepers()))
        for server in self._ran_ms.keys() - needed:
            _log.info("no shard runs the code of fork server %d any more: it ends", server.pid)
            self._close(server)

    def close(self) -> None:
        """End all of them, and with them what is left of their shards."""
        for server in list(self._ran_ms):
            self._close(server)

    def _close(self, server: ForkServer) -> None:
        del self._ran_ms[server]
        server.close()

    def _on_event(self, event: Forked | ForkFailed | Exited, pidfd: int | None) -> None:
        self._keepers()[event.shard].on_event(event, pidfd)

    def _on_lost(self, server: ForkServer, reason: str) -> None:
        """Its shards died with it. The next one is a new interpreter: this process has threads by now."""
        self._ran_ms.pop(server, None)
        self._loading.discard(server)
        _log.error("%s, and all its shards with it (pid %d)", reason, server.pid)
        for keeper in self._keepers():
            keeper.lost_the_fork_server(server, reason)
        if any(keeper.code is server and not keeper.is_stopping for keeper in self._keepers()):
            self._in_background(self._replace(server))

    async def _replace(self, lost: ForkServer) -> None:
        await asyncio.sleep(self._restarts.died(self._loop.time()))
        orphans = [keeper for keeper in self._keepers() if keeper.code is lost]
        if not orphans:  # a reload has given them another code meanwhile
            return
        server = ForkServer.start(self._boards, self._load)
        self._restarts.came_up(self._loop.time())
        for keeper in orphans:
            keeper.code = server
        self.listen(server)
