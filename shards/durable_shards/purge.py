"""Expired idempotency results go, a page at a time."""

from __future__ import annotations

import asyncio
import logging

from durable_storage.store import Store

PURGE_SECONDS = 60.0
PURGE_ROWS = 1_000

log = logging.getLogger("durable_engine.shard")


class Purge:
    """Removes them once a minute, and at once where a page was full. `look` is called often."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._at = asyncio.get_running_loop().time() + PURGE_SECONDS
        self.task: asyncio.Task[None] | None = None
        """Under way."""

    def look(self) -> None:
        """Begin if it is time."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._at and self.task is None:
            self.task = loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            removed = await self._store.purge_results(PURGE_ROWS)
        except Exception as error:
            log.info("expired idempotency results could not be removed: %s", error)
            removed = 0
        self._at = asyncio.get_running_loop().time() + (0 if removed == PURGE_ROWS else PURGE_SECONDS)
        self.task = None
