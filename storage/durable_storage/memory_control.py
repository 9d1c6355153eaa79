"""Who rules a `MemoryWorld`."""

from __future__ import annotations

import asyncio
from time import monotonic
from uuid import uuid4

from durable_storage.lease import LEASE_SECONDS, Holder, Incumbent, must_wait_for_lease, term_over
from durable_storage.memory import MemoryWorld


class MemoryControl:
    """Who rules a `MemoryWorld`. Implements `durable_storage.lease.Control`."""

    def __init__(self, world: MemoryWorld, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._world = world
        self._lease_seconds = lease_seconds

    async def prepare(self, *, shards: int, migrate: bool | None) -> None:
        """Note the number of shards."""
        self._world.shards = shards

    async def acquire(self, holder: Holder, *, takeover: bool, after: int = 0) -> int:
        """Become the ruler."""
        world = self._world
        incumbent = Incumbent(world.ruler, monotonic() - world.renewed) if world.ruler else None
        waits = must_wait_for_lease(incumbent, takeover=takeover)
        world.term = max(world.term, after) + 1
        world.ruler, world.renewed = holder, monotonic()
        for host in world.hosts.values():
            host.epoch += 1
            host.incarnation = uuid4()
        if waits:
            await asyncio.sleep(self._lease_seconds)
        return world.term

    async def renew(self, term: int) -> None:
        """Raises Fenced when somebody else rules."""
        if self._world.term != term:
            raise term_over(term, self._world.term)
        self._world.renewed = monotonic()

    async def release(self, term: int) -> None:
        """Rule no more."""
        if self._world.term == term:
            self._world.ruler = None

    async def close(self) -> None:
        """Nothing to release."""
