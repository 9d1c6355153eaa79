"""A connection to PostgreSQL that may break, with a deadline on everything it does.

asyncpg can do one thing at a time on a connection, and would end a statement that takes too long by a cancel request
over a second connection. In a black hole neither gets through, so the deadline here ends the connection instead: what
became of its statement is then asked on a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from durable_storage.ownership import closed
from durable_storage.postgres_errors import EXPECTED

DEADLINE_SECONDS: Final = 10.0
"""For one statement, and for connecting."""

_SESSION: Final = {
    "jit": "off",  # Compiling costs more than any of our statements.
    # Every statement of ours is a lookup by key, but a plan made while a table was empty would scan it for ever.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # A page comes in the order of an index; by way of a bitmap all pages are read and sorted for each one.
    "enable_bitmapscan": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
    # So that a server whose client vanished does not keep the host row's lock.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "client_connection_check_interval": "5000",
    "idle_in_transaction_session_timeout": "5000",
}
_SETTINGS: Final = """
SELECT set_config(wanted.name, wanted.value, false)
FROM unnest($1::text[], $2::text[]) AS wanted (name, value) JOIN pg_catalog.pg_settings USING (name)
UNION ALL
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""


class Link:
    """One connection at a time to one server."""

    def __init__(self, url: str, *, name: str, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._url = url
        self._name = name
        self._deadline_seconds = deadline_seconds
        self._connection: asyncpg.Connection[Any] | None = None
        self._prepared: dict[str, Any] = {}
        self._is_closed = False
        self.connects = 0
        """Connections made so far."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    @property
    def backend_pid(self) -> int:
        """Process id of the server's side; 0 without a connection."""
        return self._connection.get_server_pid() if self._connection else 0

    async def connect(self) -> asyncpg.Connection[Any]:
        """The connection, made if there is none. Raises what the driver raises, and StoreUnavailable once closed."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self.drop()
        if self._is_closed:
            raise closed()
        async with asyncio.timeout(self._deadline_seconds):
            # Without a cache of its own asyncpg makes no named statements at all, not even on prepare().
            connection = await asyncpg.connect(self._url, server_settings={"application_name": self._name})
            try:
                await connection.execute("SET default_transaction_isolation = 'read committed'")
                await connection.fetch(_SETTINGS, list(_SESSION), list(_SESSION.values()))
            except BaseException:
                connection.terminate()
                raise
        if self._is_closed:  # While it was being made: nobody would close it any more.
            connection.terminate()
            raise closed()
        self._connection = connection
        self.connects += 1
        return connection

    async def fetch(self, statement: str, *args: Any) -> list[Any]:
        """All rows of a statement, which is prepared once per connection. Raises what the driver raises."""
        prepared = self._prepared.get(statement) or await self._prepare(statement)
        with self._deadline():
            rows: list[Any] = await prepared.fetch(*args)
        return rows

    async def fetchval(self, statement: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        rows = await self.fetch(statement, *args)
        return rows[0][0] if rows else None

    async def _prepare(self, statement: str) -> Any:
        connection = await self.connect()
        with self._deadline():
            prepared = self._prepared[statement] = await connection.prepare(statement)
        return prepared

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        # A timer that ends the connection costs a microsecond; cancelling asyncpg would start a cancel request.
        timer = asyncio.get_running_loop().call_later(self._deadline_seconds, self.drop)
        try:
            yield
        except asyncio.CancelledError:
            self.drop()
            raise
        finally:
            timer.cancel()

    def drop(self) -> None:
        """End the connection without a word."""
        self._prepared = {}
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """End the connection politely, and make no other one."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        self._prepared = {}
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=2.0)
            except EXPECTED:
                connection.terminate()
