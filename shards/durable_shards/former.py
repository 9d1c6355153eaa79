"""What answers at the address of a shard that another process has taken over.

Clients hear of the change within milliseconds, but one that was held up may still send a call here. It is refused with
`NotOwner`, which says that it was certainly not run, and its client sends it again where the new table says. A one-way
call is answered by nobody, so it is passed on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from durable_shards.errors import NotOwner
from durable_shards.outbound import Caller
from durable_shards.wire import FLAG_ONE_WAY, Call, Peer

_log = logging.getLogger("durable_engine.shard")

PASS_ON_SECONDS: Final = 0.02
"""After the new table came here: our own client hears of it by another way, and would send the call here again."""


class FormerShard:
    """Runs nothing. Takes the place of a sealed shard behind its socket."""

    def __init__(self, caller: Caller, loop: asyncio.AbstractEventLoop, epoch: int, seq: int) -> None:
        self.epoch = epoch
        self.seq = seq
        self.on_release: Callable[[], None] | None = None
        self.on_portion: Callable[[], None] | None = None
        self.successor_serves: asyncio.Event = asyncio.Event()
        self._caller = caller
        self._loop = loop
        self._kept: list[Call] = []

    def receive(self, peer: Peer, calls: Iterable[Call]) -> None:
        """Refuse calls, keep or pass on those that nobody would send again."""
        for call in calls:
            if call.flags & FLAG_ONE_WAY:
                self._kept.append(call)
            else:
                peer.fail(call, NotOwner("this shard lives in another process now; nothing was run"))
        if self._kept and self.successor_serves.is_set():
            self._loop.call_later(PASS_ON_SECONDS, self.pass_on)

    async def request(self, op: str, arguments: dict[str, Any]) -> Any:
        """Never answered: clients ask again where the new table says."""
        await self._loop.create_future()

    def succeeded(self) -> None:
        """The other process serves."""
        self.successor_serves.set()
        self._loop.call_later(PASS_ON_SECONDS, self.pass_on)

    def pass_on(self) -> None:
        """Send what was kept to whoever serves it now, in the order in which it came."""
        kept, self._kept = self._kept, []
        for call in kept:
            _log.info("a one-way call of %s/%s came late and is passed on", call.object_type, call.object_id)
            sent = self._caller.call(
                call.object_type,
                call.object_id,
                call.handler,
                call.args,
                call.kwargs,
                prefix=call.prefix,
                timeout=max(call.timeout_ms, 1) / 1000,
                key=call.key,
                flags=call.flags,
                chain=call.chain,
                trace=call.trace,
            )
            sent.add_done_callback(_observe)


def _observe(sent: asyncio.Future[Any]) -> None:
    if not sent.cancelled() and (error := sent.exception()) is not None:
        _log.warning("a one-way call that was passed on is lost: %s", error)
