"""Commands that other packages bring: an entry point of the group `durable_engine.commands` is a click command.

    [project.entry-points."durable_engine.commands"]
    bench = "durable_bench.cli:bench"

They are looked for when a word is no command of our own, and when all commands are listed: reading what is installed
takes longer than `durable-engine version` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from durable_engine.output import Failure

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "durable_engine.commands"


def names() -> list[str]:
    """Of all commands that other packages bring."""
    return [found.name for found in _found()]


def load(name: str) -> click.Command | None:
    """One of them; None when there is none of that name.

    One that is broken is a command that says so when it is run: the list of all commands is shown all the same.
    """
    for found in _found():
        if found.name == name:
            return _loaded(found)
    return None


def _found() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - see above

    return list(entry_points(group=GROUP))


def _loaded(found: EntryPoint) -> click.Command:
    try:
        command = found.load()
    except Exception as error:
        return _broken(found, f"cannot be loaded: {error!r}")
    return command if isinstance(command, click.Command) else _broken(found, f"is no click command: {command!r:.100}")


def _broken(found: EntryPoint, problem: str) -> click.Command:
    package = f"the package {found.dist.name}" if found.dist else "its package"

    def refuse() -> None:
        raise Failure(
            f"the command {found.name} ({found.value}) {problem}", hint=f"install {package} anew, or remove it"
        )

    return click.Command(
        found.name,
        callback=refuse,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, expose_value=False)],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
        help=f"Broken: {problem}",
    )
