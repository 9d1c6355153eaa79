"""Schema versions of SQLite files. Every file has its own `durable_migrations`, and steps run in transactions."""

from __future__ import annotations

from typing import Any

import apsw

from durable_storage.errors import SchemaMismatch
from durable_storage.migrations import Applied, Step, current_version, latest_version, plan, unversioned

_VERSIONS = """
CREATE TABLE IF NOT EXISTS durable_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL -- seconds since 1970
) STRICT
"""


def applied(connection: apsw.Connection) -> list[Applied]:
    """The steps that were applied to a file. Raises SchemaMismatch: `unversioned`."""
    rows: Any = []
    if connection.table_exists("main", "durable_migrations"):
        rows = connection.execute("SELECT version, name, checksum FROM durable_migrations ORDER BY version").fetchall()
    if not rows and connection.table_exists("main", "durable_objects"):
        raise unversioned(connection.filename)
    return [Applied(*row) for row in rows]


def check(connection: apsw.Connection) -> None:
    """Raises SchemaMismatch unless a file has the version that this release needs."""
    where = connection.filename
    version = current_version("sqlite", applied(connection), where)
    if version != latest_version("sqlite"):
        raise SchemaMismatch(
            f"{where} is at schema version {version}, this release needs {latest_version('sqlite')}: "
            "run `durable-engine migrate up --store sqlite:///DIRECTORY`"
        )


def migrate(connection: apsw.Connection, *, to: int | None = None, direction: str | None = None) -> list[Step]:
    """Bring a file to version `to` (None: the latest), all steps in one transaction; the steps taken."""
    with connection:
        current = current_version("sqlite", applied(connection), connection.filename)
        steps = plan("sqlite", current, to, direction)
        if steps:
            connection.execute(_VERSIONS)
        for step in steps:
            connection.execute(step_script(step))
    return steps


def step_script(step: Step) -> str:
    """The SQL of one step, with the note that it was taken."""
    migration = step.migration
    script = migration.script(step.direction, "")
    if step.direction == "up":
        note = (  # The names are those of our own files.
            "INSERT INTO durable_migrations (version, name, checksum, applied_at) VALUES"  # noqa: S608
            f" ({migration.version}, '{migration.name}', '{migration.checksum}', unixepoch());"
        )
    else:
        note = f"DELETE FROM durable_migrations WHERE version = {migration.version};"  # noqa: S608 - ours
    return f"{script}\n{note}\n"


def script(*, from_version: int, to: int | None) -> str:
    """A whole migration as SQL to be read, and run with sqlite3 on each file."""
    steps = plan("sqlite", from_version, to)
    body = [f"-- {step.migration.label} {step.direction}\n{step_script(step)}" for step in steps]
    return "\n".join(["BEGIN;", f"{_VERSIONS.strip()};", *body, "COMMIT;", ""])
