"""The command line `durable-engine`: the tree of commands, and how any of them ends.

Modules of `commands` import click and nothing heavy; what a command needs it imports when it runs, so that
`durable-engine version` or a mistyped option answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from durable_engine.commands import call, completion, dev, migrate, objects, server, shards, version
from durable_engine.output import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    Failure,
    Output,
)
from durable_engine.release import RELEASE
from durable_engine.settings import config_option, remember_config

if TYPE_CHECKING:
    from durable_storage.errors import DurableError

PROGRAM = "durable-engine"
_NO_ARGUMENTS: tuple[type[click.UsageError], ...] = (
    (click.exceptions.NoArgsIsHelpError,) if hasattr(click.exceptions, "NoArgsIsHelpError") else ()  # new in click 8.2
)


class CommandLine(click.Group):
    """The root: runs a command and turns the way it ended into one line and an exit code."""

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
    if isinstance(error, _NO_ARGUMENTS):
        error.show()  # it is the help text
        return EXIT_USAGE
    failure = failure_of(error)
    if failure is None:
        raise error
    output.failure(failure)
    return failure.exit_code


def failure_of(error: Exception) -> Failure | None:
    """What to tell about an error; None for one that nobody foresaw, whose traceback is wanted."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.ClickException):
        return _usage_failure(error)
    from durable_storage.errors import DurableError, SchemaMismatch, StoreInUse, StoreUnavailable, Unavailable  # noqa: PLC0415

    if not isinstance(error, DurableError):
        return None
    hint = ""
    if isinstance(error, StoreUnavailable):
        hint = "is the database running, and is --store right?"
    elif isinstance(error, Unavailable):
        hint = "start a server with `durable-engine run`, or name the address of one with --connect"
    elif isinstance(error, StoreInUse):
        hint = "stop the other server, or take the store over with --takeover"
    elif isinstance(error, SchemaMismatch):
        hint = "`durable-engine migrate status` tells what is missing"
    return Failure(
        error.message,
        hint=hint if hint and hint not in error.message else "",
        exit_code=_exit_code(error),
        kind=type(error).__name__,
        details={"retryable": error.retryable, "outcome": error.outcome},
    )


def _exit_code(error: DurableError) -> int:
    from durable_storage.errors import Unavailable  # noqa: PLC0415
    from durable_storage.urls import StoreUrlError  # noqa: PLC0415

    if isinstance(error, StoreUrlError):
        return EXIT_USAGE
    return EXIT_UNREACHABLE if isinstance(error, Unavailable) else EXIT_FAILED


def _usage_failure(error: click.ClickException) -> Failure:
    hint = ""
    if isinstance(error, click.UsageError):
        ctx = error.ctx
        hint = f"{ctx.command_path if ctx else PROGRAM} --help"
    return Failure(error.format_message(), hint=hint, exit_code=EXIT_USAGE, kind="Usage")


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
    shards.shards,
    server.status,
    migrate.migrate,
    version.version,
    completion.completion,
):
    cli.add_command(command)


def main() -> None:
    """The entry point of the console script."""
    cli.main()
