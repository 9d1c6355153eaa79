"""Schema versions of a PostgreSQL database: one history per schema, that is, per tenant."""

from __future__ import annotations

import logging
import shlex
from typing import Any

import asyncpg

from durable_storage.address import name_problem
from durable_storage.errors import SchemaMismatch
from durable_storage.migrations import Applied, Step, current_version, latest_version, plan, unversioned
from durable_storage.postgres_batch import quoted
from durable_storage.queries import queries
from durable_storage.urls import without_password

_VERSIONS = """
CREATE TABLE IF NOT EXISTS durable_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('durable-engine migrations', 0))"
_SCHEMA_BYTES_MAX = 63
_OWNERS_VERSION = 2
"""Since when the schema of a default tenant has owners: 0002_ownership."""

_log = logging.getLogger(__name__)


def migrate_command(url: str, prefix: str = "") -> str:
    """What to run to make or upgrade the tables."""
    tenant = f" --prefix {shlex.quote(prefix)}" if prefix else ""
    return f"durable-engine migrate up --store {shlex.quote(without_password(url))}{tenant}"


def schema_of(prefix: str, home: str) -> str:
    """The schema of a tenant, unquoted. `home` is that of the default tenant. Raises SchemaMismatch."""
    if not prefix:
        return home
    if problem := name_problem("prefix", prefix):
        raise SchemaMismatch(problem)
    if prefix in {home, "information_schema"} or prefix.startswith("pg_"):
        raise SchemaMismatch(f"prefix {prefix!r} cannot be a tenant: PostgreSQL's schema of that name is taken")
    if len(prefix.encode()) > _SCHEMA_BYTES_MAX:
        raise SchemaMismatch(
            f"prefix {prefix!r} is longer than the {_SCHEMA_BYTES_MAX} bytes that PostgreSQL allows a schema's name"
        )
    return prefix


async def applied(connection: asyncpg.Connection[Any], schema: str) -> list[Applied]:
    """The steps that were applied to a schema; none where it does not exist. Raises SchemaMismatch: `unversioned`."""
    rows: list[Applied] = []
    if await _has_table(connection, schema, "durable_migrations"):
        statement = queries("postgres")["applied_migrations"].format(schema=quoted(schema))
        rows = [Applied(*row) for row in await connection.fetch(statement)]
    if not rows and await _has_table(connection, schema, "durable_objects"):
        raise unversioned(f"schema {schema!r} of the database")
    return rows


async def _has_table(connection: asyncpg.Connection[Any], schema: str, table: str) -> bool:
    return await connection.fetchval("SELECT to_regclass($1)", f"{quoted(schema)}.{table}") is not None


async def check(connection: asyncpg.Connection[Any], schema: str, command: str, *, prefix: str = "") -> None:
    """Raises SchemaMismatch unless a schema has the version that this release needs. `command` would make it so."""
    where = f"schema {schema!r} of the database"
    version = current_version("postgres", await applied(connection, schema), where)
    needed = latest_version("postgres")
    if version == 0:
        raise SchemaMismatch(f"{where} has no tables of durable-engine: run `{command}`")
    if version < needed:
        raise SchemaMismatch(f"{where} is at version {version}, this release needs {needed}: run `{command}`")
    await _check_kind(connection, schema, prefix)


async def _check_kind(connection: asyncpg.Connection[Any], schema: str, prefix: str) -> None:
    # A schema with owners is the default tenant of some engine. Nobody else may take it for one of his tenants.
    has_owners = await _has_table(connection, schema, "durable_hosts")
    if prefix and has_owners:
        raise SchemaMismatch(f"prefix {prefix!r} cannot be a tenant: the schema of that name is another engine's own")
    if not prefix and not has_owners:
        raise SchemaMismatch(
            f"schema {schema!r} of the database is a tenant: name the schema of its engine, or one of your own, "
            "in the URL (?search_path=...)"
        )


async def home_schema(connection: asyncpg.Connection[Any]) -> str:
    """The schema of the default tenant: where the connection's search_path points."""
    home: str | None = await connection.fetchval("SELECT current_schema()")
    if home is None:
        raise SchemaMismatch("no schema of the search_path exists: create it, or name another one in the URL")
    return home


async def migrate(
    connection: asyncpg.Connection[Any], prefix: str, *, to: int | None, direction: str | None = None
) -> list[Step]:
    """Bring a tenant's schema to version `to` (None: the latest), all steps in one transaction; the steps taken."""
    schema = schema_of(prefix, await home_schema(connection))
    async with connection.transaction():
        await connection.execute(_LOCK)
        if prefix:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        await connection.execute(f"SET LOCAL search_path TO {quoted(schema)}")
        await connection.execute(_VERSIONS)
        where = f"schema {schema!r} of the database"
        current = current_version("postgres", await applied(connection, schema), where)
        if prefix or current >= _OWNERS_VERSION:
            await _check_kind(connection, schema, prefix)
        steps = plan("postgres", current, to, direction)
        for step in steps:
            await connection.execute(step_script(step, prefix))
    return steps


async def upgrade(connection: asyncpg.Connection[Any]) -> None:
    """Bring the default tenant to the latest version, and with it every tenant that there is.

    A tenant that cannot be upgraded is left out, and logged: the others do not wait for it.
    """
    await migrate(connection, "", to=None)
    home = await home_schema(connection)
    for (schema,) in await connection.fetch(queries("postgres")["tenant_schemas"], home):
        if schema == home:
            continue
        try:
            await migrate(connection, schema, to=None)
        except (SchemaMismatch, asyncpg.InsufficientPrivilegeError) as error:
            _log.warning("tenant %r was not upgraded, and is not served until it is: %s", schema, error)


def step_script(step: Step, prefix: str) -> str:
    """The SQL of one step, with the note that it was taken; for the current schema."""
    migration = step.migration
    script = migration.script(step.direction, prefix)
    if step.direction == "up":
        note = (  # The names are those of our own files.
            "INSERT INTO durable_migrations (version, name, checksum)"  # noqa: S608
            f" VALUES ({migration.version}, '{migration.name}', '{migration.checksum}');"
        )
    else:
        note = f"DELETE FROM durable_migrations WHERE version = {migration.version};"  # noqa: S608 - ours
    return f"{script}\n{note}\n"


def script(prefix: str, *, from_version: int, to: int | None) -> str:
    """A whole migration as SQL to be read, and run with psql."""
    head = ["BEGIN;"]
    if prefix:
        schema = quoted(schema_of(prefix, home=""))  # which schema is the default tenant's is not known here
        head += [f"CREATE SCHEMA IF NOT EXISTS {schema};", f"SET LOCAL search_path TO {schema};"]
    steps = plan("postgres", from_version, to)
    body = [f"-- {step.migration.label} {step.direction}\n{step_script(step, prefix)}" for step in steps]
    return "\n".join([*head, f"{_VERSIONS.strip()};", *body, "COMMIT;", ""])
