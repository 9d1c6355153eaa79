"""Bringing a store's schema forwards and backwards, for the command line and for `migrate=True`.

    steps = await up("postgresql://localhost/shop", prefix="tenant-a")
    print((await status("postgresql://localhost/shop")).pending)

PostgreSQL has a history per tenant, so each is migrated by its prefix. SQLite files are migrated together, tenants
included, and by themselves whenever a supervisor starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from durable_storage.migrations import Applied, Step, current_version, known_migrations, plan
from durable_storage.queries import Dialect
from durable_storage.urls import directory_of, kind_of

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

__all__ = ["Status", "Step", "down", "sql", "status", "up"]


@dataclass(frozen=True, slots=True)
class Status:
    """Where a schema stands."""

    current: int
    latest: int
    applied: tuple[Applied, ...]
    pending: tuple[str, ...]
    """Labels of the steps that `up` would take."""


async def up(url: str, *, to: int | None = None, prefix: str = "") -> list[Step]:
    """Migrate to version `to`, or to the latest; the steps taken, none where nothing was to do.

    Raises SchemaMismatch for a version below the current one, StoreInUse, StoreUnavailable.
    """
    return await _migrate(url, to, prefix, "up")


async def down(url: str, *, to: int, prefix: str = "") -> list[Step]:
    """Migrate back to version `to`; 0 removes all tables, and with them everything stored."""
    return await _migrate(url, to, prefix, "down")


async def status(url: str, *, prefix: str = "") -> Status:
    """Where the schema stands; looks only. Raises SchemaMismatch, StoreUnavailable."""
    match kind_of(url):
        case "postgresql":
            applied = await _on_postgres(url, prefix, lambda connection: _applied(connection, prefix))
            return _status("postgres", applied)
        case "sqlite":
            from durable_storage.sqlite_control import SqliteControl  # noqa: PLC0415

            return _status("sqlite", await asyncio.to_thread(SqliteControl(directory_of(url)).applied))
        case "memory":
            return Status(0, 0, (), ())


def sql(url: str, *, from_version: int = 0, to: int | None = None, prefix: str = "") -> str:
    """The migration as SQL to be read and run by hand. Connects to nothing."""
    match kind_of(url):
        case "postgresql":
            from durable_storage import postgres_schema  # noqa: PLC0415

            return postgres_schema.script(prefix, from_version=from_version, to=to)
        case "sqlite":
            from durable_storage import sqlite_schema  # noqa: PLC0415

            return sqlite_schema.script(from_version=from_version, to=to)
        case "memory":
            return ""


async def _migrate(url: str, to: int | None, prefix: str, direction: str) -> list[Step]:
    match kind_of(url):
        case "postgresql":
            from durable_storage import postgres_schema  # noqa: PLC0415

            return await _on_postgres(
                url,
                prefix,
                lambda connection: postgres_schema.migrate(connection, prefix, to=to, direction=direction),
            )
        case "sqlite":
            from durable_storage.sqlite_control import SqliteControl  # noqa: PLC0415

            return await asyncio.to_thread(SqliteControl(directory_of(url)).migrate, to, direction)
        case "memory":
            return []


async def _on_postgres(url: str, prefix: str, work: Callable[[asyncpg.Connection[Any]], Awaitable[T]]) -> T:
    from durable_storage import postgres_schema  # noqa: PLC0415
    from durable_storage.postgres_errors import EXPECTED, explanation  # noqa: PLC0415
    from durable_storage.postgres_link import Link  # noqa: PLC0415

    link = Link(url, name="durable-engine migrate")
    try:
        return await work(await link.connect())
    except EXPECTED as error:
        raise explanation(error, migrate=postgres_schema.migrate_command(url, prefix)) from error
    finally:
        await link.close()


async def _applied(connection: asyncpg.Connection[Any], prefix: str) -> list[Applied]:
    from durable_storage import postgres_schema  # noqa: PLC0415

    schema = postgres_schema.schema_of(prefix, await postgres_schema.home_schema(connection))
    return await postgres_schema.applied(connection, schema)


def _status(dialect: Dialect, applied: list[Applied]) -> Status:
    known = known_migrations(dialect)
    current = current_version(dialect, applied, "the store")
    pending = tuple(step.migration.label for step in plan(dialect, current, None))
    return Status(current, len(known), tuple(applied), pending)
