"""The command line `durable-engine`: the tree of commands, and how any of them ends.

Modules of `commands` import click and nothing heavy; what a command needs it imports when it runs, so that
`durable-engine version` or a mistyped option answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from durable_engine import plugins
from durable_engine.commands import (
    alarms,
    call,
    completion,
    config,
    dev,
    migrate,
    new,
    objects,
    server,
    shards,
    states,
    version,
)
from durable_engine.failures import failure_of
from durable_engine.output import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USAGE, Failure, Output
from durable_engine.release import RELEASE
from durable_engine.settings import config_option, remember_config

PROGRAM = "durable-engine"


class CommandLine(click.Group):
    """The root: runs a command and turns the way it ended into one line and an exit code."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of ours, else one that another package brings."""
        return super().get_command(ctx, cmd_name) or plugins.load(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Ours and theirs."""
        return sorted({*super().list_commands(ctx), *plugins.names()})

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and leave by SystemExit."""
        words = list(sys.argv[1:] if args is None else args)
        output = Output(as_json="--json" in words)
        try:
            status = super().main(words, prog_name or PROGRAM, complete_var, standalone_mode=False, obj=output, **extra)
        except (click.Abort, KeyboardInterrupt):
            output.failure(Failure("interrupted", kind="Interrupted"))
            status = EXIT_INTERRUPTED
        except Exception as error:
            status = _report(error, output)
        sys.exit(status if isinstance(status, int) else EXIT_DONE)


def _report(error: Exception, output: Output) -> int:
    """Tell why the command ended; its exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()  # it is the help text
        return EXIT_USAGE
    failure = failure_of(error)
    if failure is None:
        raise error
    output.failure(failure)
    return failure.exit_code


@click.group(
    name=PROGRAM,
    cls=CommandLine,
    no_args_is_help=True,
    params=[config_option(remember_config)],
    context_settings={"max_content_width": 110},
)
@click.version_option(RELEASE, prog_name=PROGRAM)
def cli() -> None:
    """Persistent, single-instance Python objects: serve them, call them, look after them.

    Every option is also the environment variable shown beside it and a key of durable.toml.
    """


for command in (
    server.run,
    dev.dev,
    call.call,
    objects.objects,
    alarms.alarms,
    shards.shards,
    shards.reload,
    server.status,
    migrate.migrate,
    states.migrate_state,
    config.config,
    new.init,
    new.new,
    version.version,
    completion.completion,
):
    cli.add_command(command)


def main() -> None:
    """The entry point of the console script."""
    cli.main()
