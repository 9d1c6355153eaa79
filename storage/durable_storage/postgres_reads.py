"""The reading half of a PostgreSQL store: one connection, one statement at a time, tenants checked at first use.

What concerns all tenants goes on without one that cannot be used: its schema may be of another version, or not ours to
read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from durable_storage import postgres_schema
from durable_storage.address import Address
from durable_storage.due import BEFORE_ALL, NOTHING_SERVED, Soonest
from durable_storage.errors import SchemaMismatch, StoreUnavailable
from durable_storage.postgres_batch import quoted
from durable_storage.postgres_errors import EXPECTED, Verdict, explanation, judge
from durable_storage.postgres_link import Link
from durable_storage.queries import queries
from durable_storage.store import AlarmRow, DueAlarm, ListedAlarm, ResultRow, Served, Stored

_log = logging.getLogger(__name__)

_SQL = queries("postgres")
_LOST = {Verdict.UNKNOWN, Verdict.RECONNECT}
_ONCE_MORE = {*_LOST, Verdict.RETRY}


class PostgresReads:
    """Loads, lists and confirmations. Every method raises SchemaMismatch or StoreUnavailable."""

    def __init__(self, url: str, home: str, name: str, partitions: range, deadline_seconds: float) -> None:
        self._url = url
        self._home = home
        self._partitions = partitions
        self._link = Link(url, name=name, deadline_seconds=deadline_seconds)
        self._lock = asyncio.Lock()
        self._known = {""}
        self._told: dict[tuple[str, str], str] = {}

    async def fetch(self, statement: str, *args: Any, prefix: str = "") -> list[Any]:
        """Rows of a statement that may be executed twice: a broken connection is replaced once without a word."""
        async with self._lock:
            try:
                return await self._attempt(statement, *args)
            except EXPECTED as error:
                if judge(error) not in _ONCE_MORE:
                    raise self._explained(error, prefix) from error
            try:
                return await self._attempt(statement, *args)
            except EXPECTED as error:
                raise self._explained(error, prefix) from error

    async def _attempt(self, statement: str, *args: Any) -> list[Any]:
        try:
            return await self._link.fetch(statement, *args)
        except EXPECTED as error:
            if judge(error) in _LOST:
                self._link.drop()
            raise

    def _explained(self, error: BaseException, prefix: str) -> Exception:
        return explanation(error, migrate=postgres_schema.migrate_command(self._url, prefix))

    async def _schema(self, prefix: str) -> str:
        schema = postgres_schema.schema_of(prefix, self._home)
        if prefix not in self._known:
            command = postgres_schema.migrate_command(self._url, prefix)
            async with self._lock:
                try:
                    await postgres_schema.check(await self._link.connect(), schema, command, prefix=prefix)
                except EXPECTED as error:
                    self._link.drop()
                    raise self._explained(error, prefix) from error
            self._known.add(prefix)
        return quoted(schema)

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        """The stored objects in the order asked."""
        found: list[Stored | None] = [None] * len(addresses)
        for prefix, places in _by_prefix(address.prefix for address in addresses).items():
            sql = _SQL["load"].format(schema=await self._schema(prefix))
            wanted = [addresses[place] for place in places]
            rows = await self.fetch(sql, *_columns(wanted), prefix=prefix)
            _gather(found, places, rows)
        return found

    async def load_results(self, keys: Sequence[tuple[Address, str]], now: datetime) -> list[ResultRow | None]:
        """Unexpired results in the order asked."""
        found: list[ResultRow | None] = [None] * len(keys)
        for prefix, places in _by_prefix(address.prefix for address, _ in keys).items():
            sql = _SQL["load_results"].format(schema=await self._schema(prefix))
            columns = _columns([keys[place][0] for place in places])
            rows = await self.fetch(sql, *columns, [keys[place][1] for place in places], now, prefix=prefix)
            for place, key, fingerprint, value, expires_at in rows:
                found[places[place - 1]] = ResultRow(key, fingerprint, value, _aware(expires_at))
        return found

    async def list_ids(self, prefix: str, object_type: str, after: str, limit: int) -> list[str]:
        """A page of ids in byte order."""
        sql = _SQL["list_ids"].format(schema=await self._schema(prefix))
        ours = self._partitions
        rows = await self.fetch(sql, object_type, after, ours.start, ours.stop, limit, prefix=prefix)
        return [row[0] for row in rows]

    async def list_alarms(
        self, prefix: str, served: Served | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ListedAlarm]:
        """A page of a tenant's alarms."""
        sql = _SQL["list_alarms"].format(schema=await self._schema(prefix))
        ours, classes = self._partitions, _served_arguments(served or NOTHING_SERVED)
        rows = await self.fetch(sql, *(after or BEFORE_ALL), ours.start, ours.stop, *classes, limit, prefix=prefix)
        return [ListedAlarm(Address(prefix, *row[:2]), _alarm(*row[2:])) for row in map(tuple, rows)]

    async def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Alarms of all tenants to be fired, soonest first."""
        soonest, ours, classes = Soonest(before, limit), self._partitions, _served_arguments(served)

        async def add(prefix: str, sql: str) -> None:
            rows = await self.fetch(sql, soonest.before, ours.start, ours.stop, *classes, limit, prefix=prefix)
            soonest.add(DueAlarm(Address(prefix, *key), name, _aware(at)) for *key, name, at in rows)

        await self._in_all_tenants("due_alarms", add)
        return soonest.alarms

    async def purge_results(self, now: datetime, limit: int) -> int:
        """Remove expired results of all tenants."""
        removed = 0

        async def purge(prefix: str, sql: str) -> None:
            nonlocal removed
            if removed < limit:
                removed += (await self.fetch(sql, now, limit - removed, prefix=prefix))[0][0]

        await self._in_all_tenants("purge_results", purge)
        return removed

    async def _in_all_tenants(self, name: str, execute: Callable[[str, str], Awaitable[None]]) -> None:
        """`execute(prefix, sql)` for every tenant. One that cannot be used is left out, and logged once."""
        for (schema,) in await self.fetch(_SQL["tenant_schemas"], self._home):
            try:
                await execute("" if schema == self._home else schema, _SQL[name].format(schema=quoted(schema)))
            except (SchemaMismatch, StoreUnavailable) as error:
                if not self._link.is_open:
                    raise  # The server is away, for all of them.
                if self._told.get((name, schema)) != error.message:
                    _log.warning("%s leaves schema %r out until it can be used: %s", name, schema, error)
                self._told[name, schema] = error.message

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()


def _gather(found: list[Stored | None], places: Sequence[int], rows: Sequence[asyncpg.Record]) -> None:
    alarms: dict[int, list[AlarmRow]] = {}
    for place, state, version, name, *rest in rows:
        index = places[place - 1]
        if name is None:
            found[index] = Stored(state.encode(), version, ())
        else:
            alarms.setdefault(index, []).append(_alarm(name, *rest))
    for index, armed in alarms.items():
        stored = found[index] or Stored(None, 0, ())
        found[index] = stored._replace(alarms=tuple(sorted(armed)))


def _alarm(
    name: str,
    at: datetime,
    payload: str | None,
    attempts: int,
    recurrence: str | None,
    tick: datetime | None,
    problem: str | None,
    parked: bool,
) -> AlarmRow:
    kept = None if payload is None else payload.encode()
    return AlarmRow(name, _aware(at), kept, attempts, recurrence, tick and _aware(tick), problem, parked)


def _served_arguments(served: Served) -> tuple[tuple[str, ...], list[str], list[str]]:
    return served.catch_all, [pair[0] for pair in served.named], [pair[1] for pair in served.named]


def _aware(at: datetime) -> datetime:
    # asyncpg stores the first and last moments of datetime as infinities, and gives them back without a zone.
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _columns(addresses: Sequence[Address]) -> tuple[list[str], list[str]]:
    return [address.object_type for address in addresses], [address.object_id for address in addresses]


def _by_prefix(prefixes: Iterable[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, prefix in enumerate(prefixes):
        places.setdefault(prefix, []).append(place)
    return places
