"""What clients say they were answered with: a store that shows less than that has lost something.

A client outlives the server, so it remembers what a supervisor that was killed cannot. It says so once, when it
connects; at that moment the shards of a new server may still be starting, so what it says is kept until they serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durable_engine.keeper import ShardKeeper

_log = logging.getLogger("durable_engine.supervisor")

GRACE_SECONDS: Final = 0.5
"""A shard's board may be this much behind its replies."""


class Claims:
    """The highest commit of each shard that any client was told of, until it is found to be there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, shards: int, keepers: Callable[[], Sequence[ShardKeeper]]):
        self._loop = loop
        self._shards = shards
        self._keepers = keepers
        self._claimed: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, acknowledged: Mapping[int, tuple[int, int]]) -> None:
        """What one client was told, (epoch, seq) by shard."""
        for shard, (_, seq) in acknowledged.items():
            if 0 <= shard < self._shards:
                self._claimed[shard] = max(seq, self._claimed.get(shard, 0))
        if self._claimed and self._timer is None:
            self._timer = self._loop.call_later(GRACE_SECONDS, self._judge)

    def forget(self, shard: int) -> None:
        """Somebody accepted that it is lost."""
        self._claimed.pop(shard, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _judge(self) -> None:
        """A shard that has less is ended: its successor must find that commit in the store, or refuse to serve it."""
        self._timer = None
        for keeper in self._keepers():
            if keeper.state != "up" or keeper.shard not in self._claimed:
                continue
            seq = self._claimed.pop(keeper.shard)
            if seq > keeper.acknowledged_seq:
                _log.error(
                    "the store has lost data: a client was answered up to commit %d of shard %d, which has %d. "
                    "The shard is restarted and will refuse to serve it",
                    seq,
                    keeper.shard,
                    keeper.acknowledged_seq,
                )
                keeper.remember(seq)
                keeper.kill()
        self.add({})
