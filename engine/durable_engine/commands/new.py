"""`init` and `new`: a project to begin with, and a class with its test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from durable_engine.output import EXIT_USAGE, Failure, Output
from durable_engine.settings import Command, json_setting, setting

if TYPE_CHECKING:
    from durable_engine.scaffold.creation import Created


@click.command(cls=Command)
@click.argument("target", metavar="MODULE:CLASS")
@click.argument("fields", metavar="[FIELD:TYPE[=DEFAULT]]...", nargs=-1)
@setting("force")
@json_setting
@click.pass_obj
def new(output: Output, target: str, fields: tuple[str, ...], *, force: bool) -> None:
    """Write a class with these fields, a handler that tells and one that changes each, and a test of all of it.

    The class goes to the end of its module, which is made where there is none. Types are Python's
    (int, str|None, dict[str,int]) or those of Elixir's generator (integer, utc_datetime, map); defaults of lists,
    dicts and sets are JSON. Quote what your shell would read itself: 'tags:list[str]=["new"]'.
    """
    from durable_engine.scaffold.creation import create
    from durable_engine.scaffold.declaration import declare

    try:
        created = create(declare(target, fields), Path(), force=force)
    except ValueError as error:
        raise Failure(str(error), hint="durable-engine new --help", exit_code=EXIT_USAGE, kind="Usage") from None
    _show(output, created)


@click.command(cls=Command)
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@setting("store", help="Where its state will rest.")
@setting("scheduler")
@setting("shards", default=None)
@setting("prefix", help="Tenant of all commands in that folder.")
@setting("force")
@json_setting
@click.pass_obj
def init(
    output: Output, directory: Path, *, store: str, scheduler: str, shards: int | None, prefix: str, force: bool
) -> None:
    """Write a small project: durable.toml, a module with a class, and its test.

    It goes to DIR (default: the working directory), where `durable-engine run` then works as it is. Files that are
    there are left alone: their names are told, and nothing is written.
    """
    from durable_engine.extras import require
    from durable_engine.scaffold.project import Project, create_project

    try:
        project = Project(store=store, shards=shards, prefix=prefix, scheduler=scheduler)
    except ValueError as error:
        raise Failure(str(error), hint="durable-engine init --help", exit_code=EXIT_USAGE, kind="Usage") from None
    if scheduler == "procrastinate":
        require(scheduler)
    _show(output, create_project(project, directory, force=force))


def _show(output: Output, created: Created) -> None:
    output.show(created._asdict(), [f"wrote {name}" for name in created.written])
    output.note("\nnext:")
    for step in created.next_steps:
        output.note(f"  {step}")
