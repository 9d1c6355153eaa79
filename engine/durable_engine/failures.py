"""From an error to what the command line says about it, and to its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from durable_engine.output import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, Failure, encode_json

if TYPE_CHECKING:
    from durable_storage.errors import DurableError


def failure_of(error: Exception) -> Failure | None:
    """What to tell about an error; None for one that nobody foresaw, whose traceback is wanted."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    from durable_storage.errors import DurableError  # noqa: PLC0415 - nothing heavy before a command runs

    return _of_engine(error) if isinstance(error, DurableError) else None


def _usage(error: click.ClickException) -> Failure:
    hint = ""
    if isinstance(error, click.UsageError):
        hint = f"{error.ctx.command_path if error.ctx else 'durable-engine'} --help"
    return Failure(error.format_message(), hint=hint, exit_code=EXIT_USAGE, kind="Usage")


def _of_engine(error: DurableError) -> Failure:
    from durable_shards.errors import Rejected, error_to_wire  # noqa: PLC0415
    from durable_storage.errors import Unavailable  # noqa: PLC0415
    from durable_storage.urls import StoreUrlError  # noqa: PLC0415

    details = error_to_wire(error)
    kind, message = details.pop("type"), details.pop("message")
    if type(error) is Rejected:
        del details["class"]  # the server's class is not loaded here
    exit_code = EXIT_UNREACHABLE if isinstance(error, Unavailable) else EXIT_FAILED
    return Failure(
        message,
        shown=_line(message, details),
        hint=_hint(error),
        exit_code=EXIT_USAGE if isinstance(error, StoreUrlError) else exit_code,
        kind=kind if isinstance(error, Rejected) else type(error).__name__,
        details=details,
    )


def _line(message: str, details: dict[str, Any]) -> str:
    """What an error says of itself, and the fields of one that users have declared."""
    name = str(details.get("class", "")).rpartition(":")[2]
    fields = details.get("fields")
    return f"{name + ': ' if name else ''}{message}{' ' + encode_json(fields) if fields else ''}"


def _hint(error: DurableError) -> str:
    """What to do, unless the message says so itself."""
    from durable_shards.errors import HandlerFailed  # noqa: PLC0415
    from durable_storage.errors import StoreInUse, StoreUnavailable, Unavailable  # noqa: PLC0415

    hints: tuple[tuple[type[DurableError], str, str], ...] = (
        (StoreUnavailable, "--store", "is --store right, and can it be reached, read and written?"),
        (Unavailable, "durable-engine run", "start a server with `durable-engine run`, or name one with --connect"),
        (StoreInUse, "--takeover", "stop the other server, or take the store over with --takeover"),
        (HandlerFailed, "--json", "with --json the error holds the traceback of the handler"),
    )
    if isinstance(error, Unavailable) and error.outcome == "unknown":
        return ""  # somebody was there
    for kind, said, hint in hints:
        if isinstance(error, kind):
            return "" if said in error.message else hint
    return ""
