"""A tenant of a PostgreSQL database, for reading all of it. See `durable_storage.scan`."""

from __future__ import annotations

from typing import Any, Final

from durable_storage import postgres_schema
from durable_storage.limits import PARTITIONS
from durable_storage.postgres_batch import quoted
from durable_storage.postgres_errors import EXPECTED, explanation
from durable_storage.postgres_link import Link
from durable_storage.postgres_reads import PostgresReads
from durable_storage.queries import queries
from durable_storage.stored_state import PAGE_BYTES_MAX, StoredState

DEADLINE_SECONDS: Final = 300.0
"""For one statement: counting a class reads all of its index."""
_NAME: Final = "durable-engine scan"
_SQL: Final = queries("postgres")


class PostgresScan:
    """Implements `durable_storage.scan.Scan`."""

    shards = 1

    def __init__(self, reads: PostgresReads, schema: str, prefix: str) -> None:
        self._reads = reads
        self._schema = schema
        self._prefix = prefix

    @classmethod
    async def open(cls, url: str, prefix: str) -> PostgresScan:
        """Connect, and check the tenant's schema version."""
        link = Link(url, name=_NAME)
        command = postgres_schema.migrate_command(url, prefix)
        try:
            connection = await link.connect()
            home = await postgres_schema.home_schema(connection)
            schema = postgres_schema.schema_of(prefix, home)
            await postgres_schema.check(connection, schema, command, prefix=prefix)
        except EXPECTED as error:
            raise explanation(error, migrate=command) from error
        finally:
            await link.close()
        reads = PostgresReads(url, home, _NAME, range(PARTITIONS), DEADLINE_SECONDS)
        return cls(reads, quoted(schema), prefix)

    async def _fetch(self, name: str, *args: Any) -> list[Any]:
        return await self._reads.fetch(_SQL[name].format(schema=self._schema), *args, prefix=self._prefix)

    async def classes(self) -> list[str]:
        """Stored names of the classes that have objects."""
        found: list[str] = []
        while rows := await self._fetch("next_class", found[-1] if found else ""):
            found.append(rows[0][0])
        return found

    async def count(self, object_type: str) -> int:
        """How many objects of a class are stored."""
        return int((await self._fetch("count_class", object_type))[0][0])

    async def page(self, object_type: str, shard: int, after: str, rows_max: int) -> list[StoredState]:
        """The next rows of a class; there is one part."""
        del shard
        rows = await self._fetch("scan_class", object_type, after, rows_max, PAGE_BYTES_MAX)
        return [StoredState(object_id, state.encode(), version) for object_id, state, version in rows]

    async def close(self) -> None:
        """End the connection."""
        await self._reads.close()
