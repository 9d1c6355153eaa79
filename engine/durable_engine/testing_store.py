"""Where a test keeps its objects: memory, a directory of SQLite files, or a PostgreSQL database, by the test's clock.

The store that a shard gets is wrapped, so that a test can have a save refused. Each test has a place of its own, which
is why tests may run at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from durable_storage.address import Address
from durable_storage.errors import SchemaMismatch, StoreUnavailable
from durable_storage.lease import Control
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.memory_control import MemoryControl
from durable_storage.store import Change, Store, Stored
from durable_storage.urls import directory_of, kind_of, without_password

Now = Callable[[], datetime]
CONNECT_SECONDS = 10.0


async def _nothing_to_do(prefix: str) -> None:
    """Tenants of SQLite and memory are made at their first commit."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place to store in, which several shards open one after the other."""

    new_store: Callable[[], Store]
    control: Control
    add_tenant: Callable[[str], Awaitable[object]] = _nothing_to_do
    """What has to be done before a tenant can be used."""


# A test needs one kind of store: the drivers of the others stay where they are.
def place_of(url: str, now: Now) -> Place:
    """The place of a store's URL, by the clock `now`. `memory://` is an empty one each time. Raises StoreUrlError."""
    match kind_of(url):
        case "memory":
            world = MemoryWorld(now=now)
            return Place(lambda: MemoryStore(world), MemoryControl(world))
        case "sqlite":
            from durable_storage.sqlite import SqliteStore  # noqa: PLC0415
            from durable_storage.sqlite_control import SqliteControl  # noqa: PLC0415

            directory = directory_of(url)
            return Place(lambda: SqliteStore(directory, now=now), SqliteControl(directory))
        case "postgresql":
            from durable_storage import migrate  # noqa: PLC0415
            from durable_storage.postgres import PostgresStore  # noqa: PLC0415
            from durable_storage.postgres_control import PostgresControl  # noqa: PLC0415

            return Place(
                lambda: PostgresStore(url, now=now), PostgresControl(url), lambda prefix: migrate.up(url, prefix=prefix)
            )


@asynccontextmanager
async def fresh_database(server: str) -> AsyncIterator[str]:
    """The URL of a new, empty database on a PostgreSQL server, which is gone afterwards. Raises StoreUnavailable."""
    name = f"durable_test_{uuid4().hex}"
    await _execute(server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        await _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    import asyncpg  # noqa: PLC0415

    where = f"PostgreSQL at {without_password(url)}"
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    except (OSError, asyncpg.PostgresError, ValueError) as error:
        raise StoreUnavailable(f"{where} cannot be reached for tests: {error or type(error).__name__}") from error
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreUnavailable(f"{where}: {error}; each test gets a database, so its user needs CREATEDB") from error
    finally:
        await connection.close()


class Order:
    """A fault that was ordered, and is in force already: awaiting it waits for nothing."""

    def __init__(self) -> None:
        self.fired = False
        """Whether it has happened. A test of a fault should assert so at its end."""

    def __await__(self) -> Generator[Any, None, Order]:
        yield from ()
        return self


class RefusedSave(Order):
    """The next save is refused with `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class RefusingStore:
    """The store of one shard of a test: saves may be refused, tenants are set up at their first use.

    All that is not said here is the store's own, which makes this an implementation of `durable_storage.store.Store`.
    """

    def __init__(self, place: Place, refusals: deque[RefusedSave]) -> None:
        self._inner = place.new_store()
        self._place = place
        self._refusals = refusals
        self._tenants = {""}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """See `Store`; all of it is refused when that was ordered."""
        if not self._refusals:
            return await self._inner.commit(changes)
        order = self._refusals.popleft()
        order.fired = True
        return dict.fromkeys(range(len(changes)), order.error)

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        """See `Store`. Every object is loaded before anything is saved, so it is here that tenants are met."""
        for prefix in {address.prefix for address in addresses} - self._tenants:
            with suppress(SchemaMismatch):  # that name can be no tenant's, as the store itself will say
                await self._place.add_tenant(prefix)
                self._tenants.add(prefix)
        return await self._inner.load(addresses)
