"""`migrate`: the schema of a store, forwards and backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from durable_engine.output import Output, confirm, table
from durable_engine.settings import Group, json_setting, setting

if TYPE_CHECKING:
    from durable_storage.migrate import Step


@click.group(cls=Group)
def migrate() -> None:
    """Bring the schema of a store to a version, or look at what that would do.

    SQLite stores are upgraded by whoever starts them; a PostgreSQL database is changed by this command, or by
    run --migrate, and by nothing else. Every tenant (--prefix) of a PostgreSQL database has a schema of its own.
    """


@migrate.command()
@setting("store")
@setting("prefix")
@setting("to", show_default="the latest")
@json_setting
@click.pass_obj
def up(output: Output, *, store: str, prefix: str, to_version: int | None) -> None:
    """Upgrade to version --to."""
    from durable_storage import migrate as storage

    steps = _run(storage.up(store, to=to_version, prefix=prefix))
    current = _run(storage.status(store, prefix=prefix)).current if not steps else 0
    _show_steps(output, steps, f"already up to date: version {current}")


@migrate.command()
@setting("store")
@setting("prefix")
@setting("to", required=True, help="Schema version to go back to; 0 removes everything that is stored.")
@setting("yes")
@json_setting
@click.pass_obj
def down(output: Output, *, store: str, prefix: str, to_version: int, confirmed: bool) -> None:
    """Go back to version --to: the tables and columns that later versions added are removed, with their content."""
    from durable_storage import migrate as storage

    lost = "everything that is stored there" if to_version == 0 else "what later versions added"
    tenant = f", tenant {prefix}" if prefix else ""
    confirm(f"Go back to version {to_version} of {_shown(store)}{tenant}, and remove {lost}?", confirmed=confirmed)
    _show_steps(output, _run(storage.down(store, to=to_version, prefix=prefix)))


@migrate.command()
@setting("store")
@setting("prefix")
@json_setting
@click.pass_obj
def status(output: Output, *, store: str, prefix: str) -> None:
    """Show the version of a schema, and the steps that are missing. Changes nothing."""
    from durable_storage import migrate as storage

    found = _run(storage.status(store, prefix=prefix))
    applied = [{"version": row.version, "name": row.name, "checksum": row.checksum} for row in found.applied]
    shown = {"current": found.current, "latest": found.latest, "applied": applied, "pending": list(found.pending)}
    lines = [f"version {found.current} of {found.latest}"]
    if applied:
        lines += table(applied, ["version", "name", "checksum"])
    lines += [f"missing: {label}" for label in found.pending] or ["up to date"]
    if found.pending and not applied:
        lines.append("no tables of durable-engine found; `durable-engine migrate up` creates them")
    output.show(shown, lines)


@migrate.command()
@setting("store")
@setting("prefix")
@setting("from", default=0)
@setting("to", show_default="the latest")
@json_setting
@click.pass_obj
def sql(output: Output, *, store: str, prefix: str, from_version: int, to_version: int | None) -> None:
    """Print the SQL that leads from version --from to --to, to be read, or run by hand. Connects to nothing."""
    from durable_storage import migrate as storage

    script = storage.sql(store, from_version=from_version, to=to_version, prefix=prefix)
    output.show({"sql": script}, [script.rstrip("\n")])


def _run(work: Any) -> Any:
    import asyncio

    return asyncio.run(work)


def _show_steps(output: Output, steps: Sequence[Step], nothing: str = "nothing to do") -> None:
    shown = [
        {"direction": step.direction, "version": step.migration.version, "name": step.migration.name} for step in steps
    ]
    lines = [f"{step.direction} {step.migration.label}" for step in steps]
    output.show(shown, lines or [nothing])


def _shown(store: str) -> str:
    from durable_storage.urls import without_password

    return without_password(store)
