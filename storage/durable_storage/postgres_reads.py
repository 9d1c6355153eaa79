"""The reading half of a PostgreSQL store: one connection, one statement at a time, tenants checked at first use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from durable_storage import postgres_schema
from durable_storage.address import Address
from durable_storage.postgres_batch import quoted
from durable_storage.postgres_errors import EXPECTED, Verdict, explanation, judge
from durable_storage.postgres_link import Link
from durable_storage.queries import queries
from durable_storage.store import AlarmRow, ResultRow, Stored

_SQL = queries("postgres")
_ONCE_MORE = {Verdict.UNKNOWN, Verdict.RECONNECT, Verdict.RETRY}


class PostgresReads:
    """Loads, lists and confirmations. Every method raises SchemaMismatch or StoreUnavailable."""

    def __init__(self, url: str, home: str, name: str, partitions: range, deadline_seconds: float) -> None:
        self._url = url
        self._home = home
        self._partitions = partitions
        self._link = Link(url, name=name, deadline_seconds=deadline_seconds)
        self._lock = asyncio.Lock()
        self._known = {""}

    async def fetch(self, statement: str, *args: Any, prefix: str = "") -> list[Any]:
        """Rows of a statement that may be executed twice: a broken connection is replaced once without a word."""
        async with self._lock:
            try:
                return await self._link.fetch(statement, *args)
            except EXPECTED as error:
                verdict = judge(error)
                if verdict is not Verdict.RETRY:
                    self._link.drop()
                if verdict not in _ONCE_MORE:
                    raise self._explained(error, prefix) from error
            try:
                return await self._link.fetch(statement, *args)
            except EXPECTED as error:
                self._link.drop()
                raise self._explained(error, prefix) from error

    def _explained(self, error: BaseException, prefix: str) -> Exception:
        return explanation(error, migrate=postgres_schema.migrate_command(self._url, prefix))

    async def _schema(self, prefix: str) -> str:
        schema = postgres_schema.schema_of(prefix, self._home)
        if prefix not in self._known:
            command = postgres_schema.migrate_command(self._url, prefix)
            async with self._lock:
                try:
                    await postgres_schema.check(await self._link.connect(), schema, command)
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

    async def purge_results(self, now: datetime, limit: int) -> int:
        """Remove expired results of all tenants."""
        removed = 0
        for (schema,) in await self.fetch(_SQL["tenant_schemas"]):
            if removed < limit:
                sql = _SQL["purge_results"].format(schema=quoted(schema))
                removed += (await self.fetch(sql, now, limit - removed))[0][0]
        return removed

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()


def _gather(found: list[Stored | None], places: Sequence[int], rows: Sequence[asyncpg.Record]) -> None:
    alarms: dict[int, list[AlarmRow]] = {}
    for place, state, version, name, at, payload, attempts in rows:
        index = places[place - 1]
        if name is None:
            found[index] = Stored(state.encode(), version, ())
        else:
            alarm = AlarmRow(name, _aware(at), None if payload is None else payload.encode(), attempts)
            alarms.setdefault(index, []).append(alarm)
    for index, armed in alarms.items():
        stored = found[index] or Stored(None, 0, ())
        found[index] = stored._replace(alarms=tuple(sorted(armed)))


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
