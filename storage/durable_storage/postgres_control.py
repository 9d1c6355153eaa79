"""Who rules a PostgreSQL store: the one row of `durable_controller`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

from durable_storage import postgres_schema
from durable_storage.errors import SchemaMismatch, StoreInUse, StoreUnavailable
from durable_storage.lease import LEASE_SECONDS, Holder, Incumbent, must_wait_for_lease, term_over
from durable_storage.postgres_batch import quoted
from durable_storage.postgres_errors import EXPECTED, explanation
from durable_storage.postgres_link import DEADLINE_SECONDS, Link
from durable_storage.queries import queries

T = TypeVar("T")

_SQL = queries("postgres")


class PostgresControl:
    """The seat of the ruler of a database. Implements `durable_storage.lease.Control`."""

    def __init__(
        self, url: str, *, lease_seconds: float = LEASE_SECONDS, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self._url = url
        self._lease_seconds = lease_seconds
        self._link = Link(url, name="durable-engine supervisor", deadline_seconds=deadline_seconds)
        self._lock = asyncio.Lock()
        self._home = ""

    async def prepare(self, *, shards: int, migrate: bool | None) -> None:
        """Migrate when told to, else only look. The number of shards needs nothing here."""

        async def work() -> None:
            connection = await self._link.connect()
            if migrate:
                await postgres_schema.upgrade(connection)
            home = await postgres_schema.home_schema(connection)
            await postgres_schema.check(connection, home, postgres_schema.migrate_command(self._url))

        await self._explained(work)

    async def acquire(self, holder: Holder, *, takeover: bool, after: int = 0) -> int:
        """Become the ruler."""

        async def work() -> tuple[int, bool]:
            row = (await self._fetch("read_controller"))[0]
            # asyncpg's records are tuples with names.
            incumbent = Incumbent(Holder(*row[1:6]), row["silent_seconds"]) if row["pid"] else None
            waits = must_wait_for_lease(incumbent, takeover=takeover)
            newcomer = (holder.node, holder.boot, holder.pid, holder.process_started, holder.address)
            seized = await self._fetch("seize_controller", row["term"], *newcomer, after)
            if not seized:
                raise StoreInUse("another supervisor took this store over at this very moment: try again")
            await self._fetch("fence_hosts", uuid4())
            return int(seized[0][0]), waits

        term, waits = await self._explained(work)
        if waits:
            await asyncio.sleep(self._lease_seconds)
        return term

    async def renew(self, term: int) -> None:
        """Raises Fenced when somebody else rules."""

        async def work() -> int | None:
            if await self._fetch("renew_controller", term):
                return None
            return int((await self._fetch("read_controller"))[0]["term"])

        if (found := await self._explained(work)) is not None:
            raise term_over(term, found)

    async def release(self, term: int) -> None:
        """Rule no more."""
        await self._explained(lambda: self._fetch("release_controller", term))

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()

    async def _fetch(self, name: str, *args: Any) -> list[Any]:
        if not self._home:
            self._home = quoted(await postgres_schema.home_schema(await self._link.connect()))
        return await self._link.fetch(_SQL[name].format(home=self._home), *args)

    async def _explained(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._lock:
            try:
                return await work()
            except EXPECTED as error:
                self._link.drop()
                raise explanation(error, migrate=postgres_schema.migrate_command(self._url)) from error
            except (SchemaMismatch, StoreUnavailable):
                self._link.drop()
                raise
