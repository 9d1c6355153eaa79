"""The embedded store: a directory of SQLite files, no server needed. Layout: `sqlite_layout.py`.

Two threads: the writer commits, the reader loads, so that a cold load does not wait for an fsync. In WAL mode a reader
sees every finished commit and never blocks the writer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from durable_storage import crashpoints
from durable_storage.address import Address
from durable_storage.backoff import Backoff
from durable_storage.batching import settle
from durable_storage.due import BEFORE_ALL, NOTHING_SERVED
from durable_storage.errors import StoreUnavailable
from durable_storage.ownership import Ownership, closed
from durable_storage.sqlite_alarms import microseconds
from durable_storage.sqlite_batch import packed
from durable_storage.sqlite_errors import explained
from durable_storage.sqlite_layout import Layout
from durable_storage.sqlite_reads import SqliteReads
from durable_storage.sqlite_shard import OutcomeUnknown, SqliteShard
from durable_storage.store import Change, Claim, DueAlarm, ListedAlarm, ResultRow, Served, Stored
from durable_storage.worker import Worker

_log = logging.getLogger(__name__)


class SqliteStore:
    """A shard's files in a directory. Implements `durable_storage.store.Store`."""

    def __init__(self, directory: Path, *, now: Callable[[], datetime] | None = None) -> None:
        self.epoch = 0
        self.seq = 0
        self.unavailable_since: float | None = None
        """When (`time.monotonic`) the store stopped answering; None while it answers."""
        self._layout = Layout(directory)
        self._now = now or (lambda: datetime.now(UTC))
        self._shard: SqliteShard | None = None
        self._reads: SqliteReads | None = None
        self._writer: Worker | None = None
        self._reader: Worker | None = None
        self._committing = asyncio.Lock()

    async def open(self, claim: Claim) -> None:
        """Become the owner of the shard's files."""
        writer = Worker(f"{claim.host}-writer")
        shard = SqliteShard(self._layout, claim, self._now)
        try:
            generation = await writer.run(explained, self._layout.root, shard.open)
        except BaseException:
            await writer.close()
            raise
        self._writer, self._shard = writer, shard
        self._reader, self._reads = (
            Worker(f"{claim.host}-reader"),
            SqliteReads(self._layout, generation, claim.shard),
        )
        self._own(shard.owned)

    def _own(self, owned: Ownership) -> None:
        _, self.epoch, self.seq = owned

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        """The stored objects in the order asked."""
        reader, reads = self._opened_reader()
        return await reader.run(explained, self._layout.root, reads.load, addresses)

    async def load_results(self, keys: Sequence[tuple[Address, str]]) -> list[ResultRow | None]:
        """Unexpired results in the order asked."""
        reader, reads = self._opened_reader()
        return await reader.run(explained, self._layout.root, reads.load_results, keys, microseconds(self._now()))

    async def list_ids(self, prefix: str, object_type: str, after: str | None, limit: int) -> list[str]:
        """A page of ids; the shard's file holds its own partitions only."""
        reader, reads = self._opened_reader()
        return await reader.run(explained, self._layout.root, reads.list_ids, prefix, object_type, after or "", limit)

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """Apply all changes; {index: error} of the refused."""
        async with self._committing:
            return await settle(changes, self._apply)

    async def _apply(self, changes: Sequence[Change]) -> None:
        writer, shard = self._opened_writer()
        batch = packed(changes)
        backoff = Backoff()
        while True:
            try:
                self._own(await writer.run(shard.apply, changes, batch))
                self.unavailable_since = None
                return
            except StoreUnavailable as error:
                self._note_unavailable(error)
            except OutcomeUnknown as error:
                self._note_unavailable(error)
                if await self._resolve(changes[0].address.prefix):
                    return
            await backoff.wait()

    async def _resolve(self, prefix: str) -> bool:
        await crashpoints.stop_at("before_resolve", self)
        writer, shard = self._opened_writer()
        backoff = Backoff()
        while True:
            try:
                was_applied = await writer.run(shard.resolve, prefix)
                self._own(shard.owned)
                self.unavailable_since = None
                return was_applied
            except StoreUnavailable as error:
                self._note_unavailable(error)
                await backoff.wait()

    def _note_unavailable(self, error: Exception) -> None:
        if self.unavailable_since is None:
            self.unavailable_since = monotonic()
            _log.warning("%s does not take commits, trying again: %s", self._layout.root, error)

    async def confirm(self) -> None:
        """Raises Fenced when the files have another owner."""
        writer, shard = self._opened_writer()
        await writer.run(shard.confirm)

    async def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Alarms of all tenants to be fired, soonest first."""
        writer, shard = self._opened_writer()
        return await writer.run(explained, self._layout.root, shard.due_alarms, served, before, limit)

    async def list_alarms(
        self, prefix: str, served: Served | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ListedAlarm]:
        """A page of a tenant's alarms."""
        reader, reads = self._opened_reader()
        page = (prefix, served or NOTHING_SERVED, after or BEFORE_ALL, limit)
        return await reader.run(explained, self._layout.root, reads.list_alarms, *page)

    async def purge_results(self, limit: int) -> int:
        """Remove expired results."""
        writer, shard = self._opened_writer()
        return await writer.run(explained, self._layout.root, shard.purge_results, limit)

    async def close(self) -> None:
        """Finish what is under way, close files and threads."""
        if self._reader and self._reads:
            await self._reader.run(self._reads.close)
            await self._reader.close()
        async with self._committing:
            if self._writer and self._shard:
                await self._writer.run(self._shard.close)
                await self._writer.close()
        self._reader = self._writer = self._reads = self._shard = None

    def _opened_writer(self) -> tuple[Worker, SqliteShard]:
        if self._writer is None or self._shard is None:
            raise closed()
        return self._writer, self._shard

    def _opened_reader(self) -> tuple[Worker, SqliteReads]:
        if self._reader is None or self._reads is None:
            raise closed()
        return self._reader, self._reads
